"""pyzmq: PUSH and PULL over a Unix socket, with the limits of ../src/transport/zeromq.rs."""

import os

import zmq

from python_roles import PATIENCE, play, until


def socket(kind, channel):
    made = zmq.Context.instance().socket(kind)
    limit = min(max((64 << 20) // channel["size"], 2), 1000)
    made.set(zmq.SNDHWM, limit)
    made.set(zmq.RCVHWM, limit)
    for option in (zmq.SNDTIMEO, zmq.RCVTIMEO, zmq.LINGER):
        made.set(option, int(PATIENCE * 1e3))
    return made


def address(channel):
    return f"ipc://{channel['path']}.zmq"


class Sink:
    def __init__(self, channel):
        until(lambda: os.path.exists(channel["path"]))
        self.channel = channel
        self.socket = socket(zmq.PUSH, channel)
        self.socket.connect(address(channel))
        self.send = self.socket.send

    def finish(self):
        # A receiver loses what it has not yet read when the sender closes.
        until(lambda: not os.path.exists(self.channel["path"]), "the receiver's end")
        self.socket.close()


class Source:
    def __init__(self, channel):
        self.channel = channel
        self.socket = socket(zmq.PULL, channel)
        self.socket.bind(address(channel))
        open(channel["path"], "w").close()

    def receive(self, target):
        target[:] = self.socket.recv(copy=False).buffer

    def close(self):
        os.unlink(self.channel["path"])
        self.socket.close()


if __name__ == "__main__":
    play(Sink, Source)
