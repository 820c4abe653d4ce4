/* The doorbell of an extended ring (docs/PROTOCOL.md, "Doorbells" and "Watching a role"; crates/zerobuffer/src/wait/doorbell.rs, watcher.rs) on a
 * machine that delays stores: each side's last store may wait in a buffer of its own until a fence, an atomic read-modify-write, the kernel, or
 * chance takes it out. `loom` checks the shipped code, but knows no barrier that one process has the kernel execute in
 * another; here that is what empties the publisher's buffer, unless it misses that processor.
 *
 * Writers come one after the other. Each may die between any two of its steps, or stand still for good when it has just taken the role, or is idle; the next one
 * takes the role as soon as it is free. The sleeper sleeps without a limit. When nothing more can happen, it must have read every frame, and know of every
 * writer that came and of every death.
 *
 *   cargo xtask model
 *
 * -DFENCED: no barriers, both sides fence. -DREFUSED: the second barrier, and all after it, are refused. -DSOON: all that shows without the watcher's last look, which
 * rings whatever it finds; there no writer stands still with the role that it has just taken. -DRINGS_ONLY: a writer that connects rings only if the doorbell says *sleeping*.
 *
 * Two assumptions about time: what waits in a store buffer has come out a millisecond later (the sleeper's second look), and the lock of
 * a process that dies is free a second after the kernel has told the watcher that its file is being closed (the watcher's last look).
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef FRAMES
#define FRAMES 1
#endif
#define SLEEPING 1
#ifdef FENCED
#define BARRIER 0
#else
#define BARRIER 4
#endif

/* Shared memory as all see it: frames committed, the reader's doorbell, the writer's epoch. */
byte head = 0;
byte bell = BARRIER;
byte epoch = 0;

/* The store that waits in each side's buffer; the writer's has waited since the sleeper began its short sleep. */
bool head_waits, bell_waits, head_is_old;
byte head_next, bell_next;

/* The kernel: the role lock, a process that holds it and whose files are being closed, the watcher's queue, the sleeper in the futex's
 * queue, and whether it was woken. */
bool held, dying, event;
bool queued, woken;

/* The sleeper's process: what the watcher has found, the frames read, the writers that have come and that are gone,
 * as far as it knows. */
bool news;
byte got, met, known;

#define FLUSH_HEAD atomic { if :: head_waits -> head = head_next; head_waits = false; head_is_old = false :: else fi }
#define FLUSH_BELL atomic { if :: bell_waits -> bell = bell_next; bell_waits = false :: else fi }
#define WAKE atomic { if :: queued -> queued = false; woken = true :: else fi }
/* A writer goes on or dies; goes on, dies or stands still. (One that stands still before it rings for a frame is not dead, and the frame waits.) */
#define ON if :: skip :: goto dies fi
#define ON_OR_STAND if :: skip :: goto dies :: goto stands fi
#ifdef SOON
#define ON_WITH_ROLE ON
#else
#define ON_WITH_ROLE ON_OR_STAND
#endif

/* Chance. */
active proctype processors() {
end:
    do
    :: atomic { head_waits -> head = head_next; head_waits = false; head_is_old = false }
    :: atomic { bell_waits -> bell = bell_next; bell_waits = false }
    od
}

active proctype writers() {
    byte writer, frame, seen;
    do
    :: writer < WRITERS ->
        writer++;
        held = true;
        ON_WITH_ROLE;
        epoch = writer;
        ON;
#ifdef RINGS_ONLY
        atomic { seen = bell & SLEEPING; bell = bell & BARRIER }
        ON;
        if :: seen -> WAKE :: else fi;
#else
#ifndef NO_ROUSE
        bell = bell & BARRIER;
        ON;
        WAKE;
#endif
#endif
        frame = 0;
        do
        :: frame < FRAMES ->
            frame++;
            FLUSH_HEAD;
            atomic { head_next = head + 1; head_waits = true }
            ON;
            seen = bell;
#ifndef NEVER_FENCES
            if
            :: !BARRIER || seen != BARRIER -> FLUSH_HEAD; seen = bell
            :: else
            fi;
#endif
            ON;
            if
            :: seen & SLEEPING ->
                atomic { FLUSH_HEAD; seen = bell & SLEEPING; bell = bell & BARRIER }
                ON;
                if :: seen -> WAKE :: else fi
            :: else
            fi
        :: break
        od;
        ON_OR_STAND;
dies:
        FLUSH_HEAD;
        /* The kernel tells of the file before it drops the lock. */
        atomic { event = true; dying = true }
        atomic { held = false; dying = false }
    :: else -> break
    od;
stands:
    skip
}

active proctype watcher() {
    bool last;
end:
    do
    :: event ->
        event = false;
        last = false;
        do
        :: !last ->
            if
#ifdef LOOK_ONCE
            :: last = true
#else
            :: skip
            :: !dying -> last = true
#endif
            fi;
            if
#ifndef NO_LOCK
            :: !held -> last = true
#endif
#ifndef NO_BELL
            :: !(bell & SLEEPING)
#endif
#if !defined(SOON) && !defined(NO_LAST_RING)
            :: last
#endif
            :: else -> goto looked
            fi;
            news = true;
            bell = bell & BARRIER;
            WAKE;
looked:
            skip
        :: else -> break
        od
    od
}

active proctype sleeper() {
    byte asleep, awake = BARRIER, barriers, noted, judged;
    bool lives, twice;
    do
    ::
        news = false;
        noted = epoch;
        atomic { lives = held; judged = epoch }
        met = judged;
        if :: lives && judged > 0 -> judged-- :: else fi;
        if
        :: head > got -> got = head; goto awakes
        :: else
        fi;
        if
        :: judged > known -> known = judged; goto awakes
        :: else
        fi;
#ifdef NEWS_BEFORE_ARMING
        if :: news -> goto again :: else fi;
#endif
        asleep = awake | SLEEPING;
        if
        :: (bell_waits && bell_next == asleep) || (!bell_waits && bell == asleep)
        :: else ->
            FLUSH_BELL;
            atomic { bell_next = asleep; bell_waits = true }
#ifndef SLEEPER_NEVER_FENCES
            FLUSH_BELL;
#endif
            if
            :: asleep & BARRIER ->
#ifdef REFUSED
                if :: barriers < 2 -> barriers++ :: else fi;
                if
                :: barriers == 1 -> FLUSH_HEAD
                :: else ->
                    asleep = SLEEPING;
                    atomic { bell_next = asleep; bell_waits = true }
                    FLUSH_BELL;
                    awake = 0
                fi
#else
#ifndef NO_BARRIER
                if
                :: FLUSH_HEAD
#ifndef NEVER_MISSES
                :: skip
#endif
                fi
#endif
#endif
            :: else
            fi
        fi;
#ifdef NO_SECOND_LOOK
        twice = true;
#else
        /* Where both sides fence, one look is enough. */
        twice = !BARRIER;
#endif
        do
        :: if :: head > got -> goto again :: else fi;
#ifndef NO_WORDS
            if :: epoch != noted -> goto again :: else fi;
#endif
#ifndef NEWS_BEFORE_ARMING
            if :: news -> goto again :: else fi;
#endif
            /* FUTEX_WAIT */
            FLUSH_BELL;
            if
            :: atomic { bell == asleep -> queued = true; woken = false; head_is_old = head_waits }
                if
                :: twice ->
end_asleep:
                    woken; break
                :: !twice ->
                    if
                    :: woken -> break
                    :: atomic { !woken -> queued = false; if :: head_is_old -> FLUSH_HEAD :: else fi }
                    fi
                fi
            :: bell != asleep -> break
            fi;
            twice = true
        od;
        goto again;
awakes:
        FLUSH_BELL;
        atomic { bell_next = awake; bell_waits = true }
again:
        skip
    od
}

/* When nothing else can happen. */
active proctype judge() {
    timeout;
    assert(got == head);
    assert(met == epoch);
    assert(known == epoch || (held && known + 1 == epoch))
}
