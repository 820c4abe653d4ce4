/**
 * @file
 * ZeroBuffer for C++20: frames between two processes through shared memory. This header includes all others.
 *
 * The **reader** creates and owns a buffer, the **writer** connects to it. Frames are read in place, without a copy, and given
 * back when they are destroyed. docs/CPP.md is the page for users.
 *
 * @code
 * // One process:
 * zerobuffer::Reader reader("camera", zerobuffer::BufferConfig(4096, 256 * 1024 * 1024));
 * // Another one:
 * zerobuffer::Writer writer("camera");
 * writer.write_frame(picture.data(), picture.size());
 * // The first:
 * zerobuffer::Frame frame = reader.read_frame();
 * if (frame.valid()) show(frame.data(), frame.size());
 * @endcode
 */
#ifndef ZEROBUFFER_ZEROBUFFER_H
#define ZEROBUFFER_ZEROBUFFER_H

#include <zerobuffer/config.h>
#include <zerobuffer/duplex.h>
#include <zerobuffer/exceptions.h>
#include <zerobuffer/frame.h>
#include <zerobuffer/inspect.h>
#include <zerobuffer/interrupt.h>
#include <zerobuffer/kept_buffer.h>
#include <zerobuffer/logging.h>
#include <zerobuffer/reader.h>
#include <zerobuffer/shared_writer.h>
#include <zerobuffer/tee.h>
#include <zerobuffer/version.h>
#include <zerobuffer/writer.h>

#endif
