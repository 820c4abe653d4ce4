//! Man pages and completions, made from the definitions in `args.rs`.

use std::io;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit;
use crate::output::{complain, say_text};

pub(crate) fn completions(args: &CompletionsArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "zerobuffer", &mut script);
    say_text(&script);
    exit::OK
}

pub(crate) fn man(args: &ManArgs) -> u8 {
    let mut command = Cli::command();
    // Gives the subcommands their full names.
    command.build();
    if let Some(dir) = &args.dir {
        return finish(
            std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir)),
        );
    }
    let page = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names: Vec<&str> = command
                    .get_subcommands()
                    .filter(|sub| !sub.is_hide_set())
                    .map(clap::Command::get_name)
                    .collect();
                complain(&format_args!("no command `{name}`; there are: {}", names.join(", ")));
                return exit::BAD_ARGUMENTS;
            }
        },
    };
    let mut text = Vec::new();
    finish(clap_mangen::Man::new(page).render(&mut text).map(|()| say_text(&text)))
}

fn finish(result: io::Result<()>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&error);
            exit::FAILED
        }
    }
}
