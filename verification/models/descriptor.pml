/* The descriptor of a reader of an extended ring (docs/PROTOCOL.md, "Descriptors"; crates/zerobuffer/src/attention.rs, descriptor.rs, listener.rs): an event loop
 * polls a FIFO, the writer or the owner's own listener writes a byte to it, and a call that blocks may sleep on the same doorbell. A writer's last store may wait in a
 * store buffer, which the owner's barrier may miss; the owner's stores are seen at once, as it fences behind them (`bell.pml` has both).
 *
 * Writers come one after the other. Each may be able to open the FIFO or not, may die between any two of its steps, or stand still when it is idle; the next one takes
 * the role as soon as it is free. When nothing more can happen, the owner must have read every frame, and know of every writer that came and of every death.
 *
 *   cargo xtask model
 *
 * The watcher is that of `bell.pml` with SOON. -DRINGS_ONLY: a writer that connects rings only if the doorbell says *sleeping*. The other definitions leave a rule out.
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef FRAMES
#define FRAMES 1
#endif
/* Calls that block between looks of the event loop. */
#ifndef CALLS
#define CALLS 1
#endif
/* Looks of the watcher before the one that finds the lock free. */
#ifndef LOOKS
#define LOOKS 1
#endif
/* Then nothing has to be looked at later. */
#ifdef NEVER_MISSES
#define NO_LOOK_LATER
#endif
#define SLEEPING 1
#define DESCRIPTOR 2
#define TURN 4
#define TURNS 16

/* Shared memory: frames committed, the reader's doorbell (0: awake), the writer's epoch; the writer's store that waits, and whether it has waited
 * since the last arming. */
byte head = 0, bell = 0, epoch = 0;
bool head_waits, head_is_old;
byte head_next;

/* The kernel: bytes in the FIFO (many are like one); the role lock, and a process whose files are being closed; the watcher's queue; the threads in the
 * futex's queue, and whether they were woken: the call that blocks, and the listener. */
byte fifo = 1;
bool held, dying, event;
bool queued, woken, listens, heard;

/* The owner's process: what the watcher has found; the position noted at the last arming, which the listener is to compare a
 * millisecond later; frames read, writers that have come and that are gone, as far as it knows. */
bool news, again;
byte noted, got, met, known;

#define FLUSH_HEAD atomic { if :: head_waits -> head = head_next; head_waits = false; head_is_old = false :: else fi }
#define RING_FIFO fifo = 1
#ifdef WAKE_ONE
#define WAKE atomic { if :: listens -> listens = false; heard = true :: queued && !listens -> queued = false; woken = true :: else fi }
#else
#define WAKE atomic { if :: queued -> queued = false; woken = true :: else fi; if :: listens -> listens = false; heard = true :: else fi }
#endif
#define ON if :: skip :: goto dies fi

/* Chance. */
active proctype processors() {
end:
    do
    :: atomic { head_waits -> head = head_next; head_waits = false; head_is_old = false }
    od
}

active proctype writers() {
    byte writer, frame, seen;
    bool opens;
    do
    :: writer < WRITERS ->
        atomic { writer++; held = true; opens = true }
#ifndef ALWAYS_OPENS
        if :: skip :: opens = false fi;
#endif
        ON;
        epoch = writer;
        ON;
#ifdef RINGS_ONLY
        atomic { seen = bell; bell = bell & ~SLEEPING }
        ON;
        atomic {
            if
            :: (seen & SLEEPING) && (seen & DESCRIPTOR) && opens -> RING_FIFO
            :: (seen & SLEEPING) && !((seen & DESCRIPTOR) && opens) -> WAKE
            :: else
            fi;
            seen = 0
        }
#else
#ifndef NO_ROUSE
        bell = bell & ~SLEEPING;
        ON;
        if :: opens -> RING_FIFO :: else fi;
        ON;
        WAKE;
#endif
#endif
        do
        :: frame < FRAMES ->
            atomic { frame++; FLUSH_HEAD; head_next = head + 1; head_waits = true }
            ON;
            /* An owner that seems to be awake costs no fence. */
            atomic { seen = bell; if :: seen != 0 -> FLUSH_HEAD; seen = bell :: else fi }
            if
            :: seen & SLEEPING ->
                atomic { FLUSH_HEAD; seen = bell; bell = bell & ~SLEEPING }
                ON;
                atomic {
                    if
                    :: (seen & SLEEPING) && (seen & DESCRIPTOR) && opens -> RING_FIFO
                    :: (seen & SLEEPING) && !((seen & DESCRIPTOR) && opens) -> WAKE
                    :: else
                    fi;
                    seen = 0
                }
            :: else -> seen = 0
            fi
        :: else -> break
        od;
        if :: goto dies :: goto stands fi;
dies:
        /* The kernel tells of the file before it drops the lock. */
        atomic { FLUSH_HEAD; frame = 0; seen = 0; opens = false; event = true; dying = true }
        atomic { held = false; dying = false }
    :: else -> break
    od;
stands:
    skip
}

active proctype watcher() {
    bool last;
    byte looks;
end:
    do
    :: event ->
        atomic { event = false; last = false; looks = 0 }
        do
        :: !last ->
            if
            :: looks < LOOKS -> looks++
            :: !dying -> last = true
            fi;
            atomic {
                if
                :: !held -> last = true
#ifndef NO_BELL
                :: !(bell & SLEEPING)
#endif
                :: else -> goto looked
                fi;
                news = true
            }
            atomic { bell = bell & ~SLEEPING; WAKE; RING_FIFO }
looked:
            skip
        :: else -> atomic { last = false; looks = 0; break }
        od
    od
}

#ifndef NO_LISTENER
active proctype listener() {
    byte seen, rung;
end:
    do
    ::
        seen = bell;
        atomic {
            if
            :: (seen & DESCRIPTOR) && !(seen & SLEEPING) && seen != rung -> rung = seen; RING_FIFO
            :: else
            fi
        }
#ifndef NO_LOOK_LATER
        if
        :: atomic { again ->
            /* A millisecond after the arming. */
            again = false;
            if :: head_is_old -> FLUSH_HEAD :: else fi;
            if :: (bell & DESCRIPTOR) && (bell & SLEEPING) && head != noted -> RING_FIFO :: else fi }
        :: else
        fi;
#endif
        if
        :: atomic { bell == seen && !again -> listens = true; heard = false; seen = 0 }
end_listens:
            if
            :: atomic { heard -> heard = false }
            :: atomic { again && !heard -> listens = false }
            fi
        :: bell != seen || again
        fi
    od
}
#endif

active proctype owner() {
    /* The doorbell at the last arming; 0: the descriptor is ready. */
    byte armed, turn, calls, words, judged;
    bool found, was_ready, second, blocks;
    /* The event loop waits; or the program calls a function that blocks. */
end_waits:
    if
    :: atomic { fifo > 0 -> blocks = false; second = false }
    :: atomic { calls < CALLS -> calls++; blocks = true; second = false; goto leaves }
    fi;
looks:
    /* One look at the ring, and one at the writer. */
    atomic {
        found = false;
        if
        :: head > got -> got = head; found = true; goto looked
        :: else
        fi
    }
#ifdef NEWS_BEFORE_ARMING
    if :: second -> goto looked :: else fi;
#endif
    atomic { news = false; words = epoch }
    atomic {
        judged = epoch;
        met = judged;
        if :: held && judged > 0 -> judged-- :: else fi
    }
    atomic {
        if
        :: head > got -> got = head; found = true
        :: else ->
            if :: judged > known -> known = judged; found = true :: else fi
        fi;
        judged = 0
    }
looked:
    atomic {
        if
        :: blocks -> goto call
        :: !blocks && found -> words = 0; goto leaves
        :: else
        fi;
        words = 0;
        if :: second -> second = false; goto end_waits :: else fi;
        second = true
    }
    /* Nothing: drain, arm, fence, look again. */
#ifndef DRAINS_BEHIND
    atomic { was_ready = fifo > 0; fifo = 0 }
#endif
    atomic {
        if
        :: armed != 0 && bell == armed ->
            if :: !was_ready -> second = false; goto end_waits :: else fi
        :: else ->
#ifndef NO_TURN
            turn = (turn + 1) % TURNS;
#endif
            armed = SLEEPING | DESCRIPTOR | turn * TURN;
            bell = armed;
            head_is_old = head_waits;
#ifndef NO_LOOK_LATER
            noted = head;
            again = true;
#endif
            /* The barrier may miss the writer's processor. */
#ifdef NEVER_MISSES
            FLUSH_HEAD
#else
            if :: FLUSH_HEAD :: skip fi
#endif
        fi;
        was_ready = false
    }
#ifdef DRAINS_BEHIND
    fifo = 0;
#endif
#ifdef NO_LOOK_BEHIND
    second = false;
    goto end_waits;
#else
    goto looks;
#endif
leaves:
    if
    :: armed != 0 ->
        atomic { armed = 0; bell = 0; second = false }
#ifndef LEAVES_SILENTLY
        fifo = 1
#endif
    :: else
    fi;
    if :: blocks -> goto looks :: else -> goto end_waits fi;
call:
    if :: found -> atomic { bell = 0; blocks = false; words = 0; goto end_waits } :: else fi;
    atomic { bell = SLEEPING; FLUSH_HEAD }
    if :: head > got || epoch != words || news -> goto looks :: else fi;
    if
    :: atomic { bell == SLEEPING -> queued = true; woken = false }
end_asleep:
        atomic { woken -> woken = false }
    :: bell != SLEEPING
    fi;
    goto looks
}

/* When nothing else can happen. */
active proctype judge() {
    timeout;
    assert(got == head);
    assert(met == epoch);
    assert(known == epoch || (held && known + 1 == epoch))
}
