//! Twenty buffers and a socket in one thread, by tokio: `event_loop NAME` reads the buffers NAME-1 to NAME-20 until each writer
//! has closed, and one line from each client of a socket, whose port it prints. `stream writer NAME-1` writes to one of them.

use std::error::Error;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use zerobuffer::tokio::AsyncReader;
use zerobuffer::{BufferConfig, Reader};

const BUFFERS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(name) = std::env::args().nth(1) else { return Err("usage: event_loop NAME".into()) };
    let mut reading = JoinSet::new();
    for number in 1..=BUFFERS {
        let reader = Reader::create(&format!("{name}-{number}"), BufferConfig::default())?;
        reading.spawn(read(number, AsyncReader::new(reader)?));
    }
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    println!("port {}", socket.local_addr()?.port());
    loop {
        tokio::select! {
            ended = reading.join_next() => match ended {
                Some(ended) => println!("{}: end of stream", ended??),
                None => return Ok(()),
            },
            client = socket.accept() => {
                let mut lines = BufReader::new(client?.0).lines();
                println!("socket: {}", lines.next_line().await?.unwrap_or_default());
            }
        }
    }
}

/// Prints the frames of one buffer. Returns its number when the writer has closed.
async fn read(number: usize, mut reader: AsyncReader) -> Result<usize, zerobuffer::Error> {
    while let Some(frame) = reader.next().await? {
        println!("{number}: {}", String::from_utf8_lossy(&frame));
    }
    Ok(number)
}
