//! The developer's commands. The README and CI call `cargo xtask test`.

mod bench;
mod conformance;
mod cpp;
mod cpp_package;
mod csharp;
mod csharp_package;
mod examples;
mod fuzz;
mod house;
mod instructions;
mod model;
mod mutants;
mod output;
mod prepare;
mod python;
mod sanitize;
mod test;
mod tools;
mod venv;
mod workflows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <command>

  test [--full] [--keep-going] [STEP...]
                            builds and checks everything, as CI does; --full adds the long rounds; --keep-going
                            goes on after a step that failed;
                            with steps, only those (cargo xtask test --list names them)
  bench [--rivals] [--cpp] [--csharp] [--python] [ARGUMENT...]
                            runs the benchmark driver in bench/ (--quick, --curves, --out FOLDER ...; --help lists
                            them); --rivals builds it with all rivals that this machine can build; --cpp, --csharp and
                            --python compare our C++ API, our C# package, and our Python package and its rivals,
                            with Rust
  wheels                    builds a Python wheel for each CPython 3.8 to 3.13 that is installed, and tries each
  conformance [--report] [--only TEXT] [ARGUMENT...]
                            plays every scenario with every pair of languages; --report writes verification/records/conformance/
  soak [--minutes N] [--kills N] [ARGUMENT...]
                            kills peers at random and counts what becomes of the others
  fuzz [--executions N] [TARGET...]
                            runs the fuzz targets of fuzz/ (10,000,000 executions each where nothing else is said)
  house [--update]          checks the shape of the sources: edges between modules, circles, lengths; --update writes
                            the table of what is allowed
  instructions [--update]   counts the instructions that a frame takes; --update writes the figures to compare with
  sanitize                  runs tests of the core under AddressSanitizer and LeakSanitizer
  mutants [--sample N] [OPTION...]
                            changes the library in many small ways and sees whether a test notices each
  model [MODEL...]          checks the models of verification/models with spin; with names, only those
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("--help", &[][..]),
    };
    let result = match command {
        "test" => test::command(&root(), rest),
        "bench" => bench::command(&root(), rest),
        "wheels" => python::wheels(&root()),
        "fuzz" => fuzz::command(&root(), rest),
        "house" => house::command(&root(), rest),
        "instructions" => instructions::command(&root(), rest),
        "mutants" => mutants::command(&root(), rest),
        "model" => model::command(&root(), rest),
        "sanitize" => sanitize::command(&root()),
        // Only for `test`, which runs it beside its tests.
        "prepare" => prepare::command(&root(), rest),
        "conformance" => conformance::command(&root(), rest),
        "soak" => conformance::soak(&root(), rest),
        "-h" | "--help" | "help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command `{other}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}
