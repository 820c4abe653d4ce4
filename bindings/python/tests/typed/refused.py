"""Not run: lines that type checkers must refuse, each one."""

import zerobuffer
from zerobuffer.duplex import DuplexChannelFactory, DuplexClient

factory = DuplexChannelFactory()
factory.create_client("name", conect_timeout_ms=3)
factory.create_client("name", response_config=5)
DuplexClient("name", conect_timeout_ms=3)
zerobuffer.Writer("name").write_frame("text")
zerobuffer.Writer("name").write_frame(5)
zerobuffer.Reader("name").read_frame("long")
factory.create_immutable_server("name").start(5)
zerobuffer.BufferConfig(payload="large")
