//! Peers that tests kill.

use zerobuffer::{KeptBuffer, Reader, Writer};

use super::stage::config;
use crate::support::{self, say};

support::peers!(writer, reader, keeper);

pub(crate) fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    support::hear();
}

pub(crate) fn reader(arguments: &[String]) {
    let mode = u32::from_str_radix(&arguments[1], 8).unwrap();
    let _reader = Reader::create(&arguments[0], config().mode(mode)).unwrap();
    say("created");
    support::hear();
}

pub(crate) fn keeper(arguments: &[String]) {
    let _kept = KeptBuffer::create(&arguments[0], config()).unwrap();
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"kept frame").unwrap();
    say("kept");
    support::hear();
}
