/* The bell of an extended ring (docs/PROTOCOL.md, "Bells"; crates/zerobuffer/src/wait/bell.rs) on a machine that delays stores:
 * each side's last store may wait in a buffer of its own until a fence, an atomic read-modify-write, the kernel, or
 * chance takes it out. `loom` checks the shipped code, but knows no barrier that one process has the kernel execute in
 * another; here that is what empties the publisher's buffer. A lost wake-up leaves a sleeper that never ends: an invalid end.
 *
 *   cargo xtask model
 *
 * -DREFUSED: the second barrier, and all after it, are refused. Of all sleeps from then on one may end by its time-out:
 * a publisher that has relied on the barrier just before has looked without a fence. It does not do so again.
 */

#ifndef FRAMES
#define FRAMES 3
#endif
#define SLEEPING 1
#define BARRIER 4

/* Shared memory as all see it. */
byte head = 0;
byte bell = BARRIER;

/* The store that waits in each side's buffer. */
bool head_waits, bell_waits;
byte head_next, bell_next;

/* The kernel's queue: the reader is in it; it is woken. */
bool queued, woken;

#define FLUSH_HEAD atomic { if :: head_waits -> head = head_next; head_waits = false :: else fi }
#define FLUSH_BELL atomic { if :: bell_waits -> bell = bell_next; bell_waits = false :: else fi }

/* Chance. */
active proctype processors() {
end:
    do
    :: atomic { head_waits -> head = head_next; head_waits = false }
    :: atomic { bell_waits -> bell = bell_next; bell_waits = false }
    od
}

active proctype publisher() {
    byte frame, seen;
    do
    :: frame < FRAMES ->
        frame++;
        FLUSH_HEAD;
        atomic { head_next = frame; head_waits = true }
        seen = bell;
#ifndef NEVER_FENCES
        if
        :: seen != BARRIER -> FLUSH_HEAD; seen = bell
        :: else
        fi;
#endif
        if
        :: seen & SLEEPING ->
            atomic {
                FLUSH_HEAD;
                if
                :: bell & SLEEPING -> bell = bell & BARRIER; if :: queued -> queued = false; woken = true :: else fi
                :: else
                fi
            }
        :: else
        fi
    :: else -> break
    od
}

active proctype sleeper() {
    byte got, asleep, awake = BARRIER, barriers;
    bool may_time_out;
    do
    :: got < FRAMES ->
        if
        :: head > got -> got = head
        :: else ->
            asleep = awake | SLEEPING;
            FLUSH_BELL;
            atomic { bell_next = asleep; bell_waits = true }
#ifndef SLEEPER_NEVER_FENCES
            FLUSH_BELL;
#endif
            if
            :: asleep & BARRIER ->
                barriers++;
#ifdef REFUSED
                if
                :: barriers == 1 -> FLUSH_HEAD
                :: else ->
                    if :: barriers == 2 -> may_time_out = true :: else fi;
                    asleep = SLEEPING;
                    atomic { bell_next = asleep; bell_waits = true }
                    FLUSH_BELL;
#ifndef STUBBORN
                    awake = 0
#endif
                fi
#else
#ifndef NO_BARRIER
                FLUSH_HEAD
#endif
#endif
            :: else
            fi;
            if
            :: head > got
            :: else ->
                /* FUTEX_WAIT */
                FLUSH_BELL;
                if
                :: atomic { bell == asleep -> queued = true; woken = false }
                    if
                    :: woken
                    /* After milliseconds every store has come out. */
                    :: may_time_out -> may_time_out = false; queued = false; FLUSH_HEAD
                    fi
                :: bell != asleep
                fi
            fi;
            FLUSH_BELL;
            atomic { bell_next = awake; bell_waits = true }
        fi
    :: else -> break
    od
}
