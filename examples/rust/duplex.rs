//! Request and response: `duplex server NAME` in one terminal, `duplex client NAME` in another.

use std::error::Error;
use std::time::Duration;

use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, ProcessingMode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", name] => serve(name),
        ["client", name] => ask(name),
        _ => Err("usage: duplex server|client NAME".into()),
    }
}

/// Answers each request with its text in capitals, until Enter is pressed.
fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    let server = DuplexChannelFactory::new().create_immutable_server(name, BufferConfig::default())?;
    server.on_error(|error| eprintln!("{error}"));
    server.start(
        |request| match std::str::from_utf8(request) {
            Ok(text) => Ok(text.to_uppercase().into_bytes().into()),
            // The client gets this as RequestFailed; the server goes on.
            Err(error) => Err(error.into()),
        },
        ProcessingMode::SingleThread,
    )?;
    eprintln!("serving {name}; press Enter to stop");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(server.stop()?)
}

/// Asks three times and prints the answers.
fn ask(name: &str) -> Result<(), Box<dyn Error>> {
    let options = ClientOptions::default().connect_timeout(Duration::from_secs(10));
    let client = DuplexChannelFactory::new().create_client_with(name, options)?;
    for text in ["hello", "shared", "memory"] {
        let response = client.call(text.as_bytes(), Duration::from_secs(5))?;
        println!("{text} -> {}", String::from_utf8_lossy(&response));
    }
    Ok(())
}
