//! The Rust peer of the conformance suite: one JSON step a line on stdin, one answer a line on stdout. verification/conformance/README.md
//! describes the steps.

mod duplex;
mod steps;
mod streams;

use std::io::{BufRead, Write};
use std::sync::mpsc::channel;

use serde_json::{Map, Value, json};

use steps::{Answer, Step};

fn main() {
    let (sender, receiver) = channel::<Step>();
    let mut streams = streams::Streams::default();
    let mut channels = duplex::Channels::default();
    let interrupts = streams.interrupts();
    let worker = std::thread::spawn(move || {
        for step in receiver {
            let answer = match step.text("do") {
                Ok("reset") => {
                    streams.reset();
                    channels.reset();
                    Ok(Map::new())
                }
                Ok(verb) => streams
                    .play(verb, &step)
                    .or_else(|| channels.play(verb, &step))
                    .unwrap_or_else(|| Err(("Unsupported".to_owned(), format!("no step `{verb}`")))),
                Err(error) => Err(error),
            };
            say(step.id(), answer);
        }
    });
    for line in std::io::stdin().lock().lines() {
        let Ok(step) = serde_json::from_str::<Value>(&line.expect("stdin")) else {
            eprintln!("a step that is no JSON");
            std::process::exit(2);
        };
        let step = Step(step);
        match step.text("do") {
            // These must work while the worker is blocked in another step.
            Ok("interrupt") => {
                interrupts.interrupt(step.text("of").unwrap_or("reader"));
                say(step.id(), Ok(Map::new()));
            }
            Ok("die") => {
                // SAFETY: plain system call; ends this process.
                unsafe { libc::raise(libc::SIGKILL) };
            }
            _ => sender.send(step).expect("the worker lives"),
        }
    }
    drop(sender);
    let _ = worker.join();
}

fn say(id: u64, answer: Answer) {
    let line = match answer {
        Ok(fields) => json!({"id": id, "ok": fields}),
        Err((kind, message)) => json!({"id": id, "error": kind, "message": message}),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the runner listens");
}
