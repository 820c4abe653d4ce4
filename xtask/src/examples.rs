//! The programs of `examples/`: built in every language, and run with each other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{self, cargo, run};

/// Seconds after which a program that should have ended is killed.
const PATIENCE: &str = "120";

const STREAM: &str =
    "1: frame 1 of 5\n2: frame 2 of 5\n3: frame 3 of 5\n4: frame 4 of 5\n5: frame 5 of 5\nend of stream\n";
const PICTURES: &str =
    "picture 1: mean brightness 69\npicture 2: mean brightness 89\npicture 3: mean brightness 109\n";
const ANSWERS: &str = "hello -> HELLO\nshared -> SHARED\nmemory -> MEMORY\n";

/// How the programs of a language are started.
struct Language {
    name: &'static str,
    program: Box<dyn Fn(&str) -> Command>,
}

/// Builds all examples and runs every topic with every pair of languages.
pub(crate) fn test(root: &Path, _full: bool) -> Result<()> {
    let languages = build(root)?;
    let mut names = Names(0);
    for first in &languages {
        for second in &languages {
            let pair = format!("{} and {}", first.name, second.name);
            streams(first, second, &mut names).with_context(|| format!("streams of {pair}"))?;
        }
    }
    let find = |name| languages.iter().find(|language| language.name == name);
    if let (Some(camera), Some(enhancer), Some(display)) = (find("C++"), find("Python"), find("C#")) {
        pipeline(camera, [enhancer, enhancer], display, &mut names)
            .context("a camera in C++, an enhancer in Python, a display in C#")?;
    }
    println!("every topic ran in {} languages, and between them", languages.len());
    Ok(())
}

fn build(root: &Path) -> Result<Vec<Language>> {
    run(&mut cargo(root, &["build", "--quiet", "--package", "zerobuffer", "--examples"]))?;
    tools::need("cmake", "cmake")?;
    let build = root.join("target/examples");
    run(Command::new("cmake")
        .args(["-S".as_ref(), root.join("examples").as_os_str(), "-B".as_ref(), build.as_os_str()])
        .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display()))
        .stdout(Stdio::null()))?;
    run(tools::build_quickly(Command::new("cmake").arg("--build").arg(&build)).stdout(Stdio::null()))?;
    let python = crate::python::installed(root)?;

    let folder = |path: PathBuf| Box::new(move |topic: &str| Command::new(path.join(topic)));
    let scripts = root.join("examples/python");
    let mut languages = vec![
        Language { name: "Rust", program: folder(root.join("target/debug/examples")) },
        Language { name: "C", program: folder(build.join("c")) },
        Language { name: "C++", program: folder(build.join("cpp")) },
        Language {
            name: "Python",
            program: Box::new(move |topic| {
                let mut command = Command::new(&python);
                command.arg(scripts.join(format!("{topic}.py")));
                command
            }),
        },
    ];
    if let Some(program) = crate::csharp::examples(root)? {
        languages.push(Language { name: "C#", program });
    }
    Ok(languages)
}

/// Runs every topic once: `first` writes, asks and relays first; `second` reads, answers and relays next.
fn streams(first: &Language, second: &Language, names: &mut Names) -> Result<()> {
    let name = names.next();
    let reader = start(second, "stream", &["reader", &name])?;
    let writer = start(first, "stream", &["writer", &name])?;
    says(writer, "")?;
    says(reader, STREAM)?;

    let name = names.next();
    let viewer = start(second, "in_place", &["viewer", &name])?;
    let camera = start(first, "in_place", &["camera", &name])?;
    says(camera, "")?;
    says(viewer, PICTURES)?;

    let name = names.next();
    let mut server = start(second, "duplex", &["server", &name])?;
    says(start(first, "duplex", &["client", &name])?, ANSWERS)?;
    // The server stops at the end of its input, as it does when Enter is pressed.
    drop(server.stdin.take());
    says(server, "")?;

    pipeline(second, [first, second], first, names)
}

/// A stream through two relays. Each inverts it, so that the text comes out as it went in.
fn pipeline(
    camera: &Language,
    enhancers: [&Language; 2],
    display: &Language,
    names: &mut Names,
) -> Result<()> {
    let (head, middle, tail) = (names.next(), names.next(), names.next());
    let reader = start(display, "stream", &["reader", &tail])?;
    let relays =
        [start(enhancers[1], "relay", &[&middle, &tail])?, start(enhancers[0], "relay", &[&head, &middle])?];
    says(start(camera, "stream", &["writer", &head])?, "")?;
    relays.into_iter().try_for_each(|relay| says(relay, ""))?;
    says(reader, STREAM)
}

fn start(language: &Language, topic: &str, arguments: &[&str]) -> Result<Child> {
    let program = (language.program)(topic);
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program.get_program()).args(program.get_args()).args(arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.with_context(|| format!("cannot start {topic} in {}", language.name))
}

/// Waits for a program, which must succeed and print exactly this.
fn says(child: Child, expected: &str) -> Result<()> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text != expected {
        bail!("{}; printed {text:?}, expected {expected:?}", output.status);
    }
    Ok(())
}

/// Unique names of buffers.
struct Names(u32);

impl Names {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("zbtest-example-{}-{}", std::process::id(), self.0)
    }
}
