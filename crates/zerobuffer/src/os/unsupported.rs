//! Systems without an implementation yet.
compile_error!("ZeroBuffer runs on Linux (x86-64, aarch64); Windows and macOS are not supported yet");
