/* The entry to the extended ring, beside a native reader, native writers that may die or stand still anywhere, and
 * writers of the 1.x libraries that know nothing of it (docs/PROTOCOL.md, "Entry", "Life of a buffer", "Crashes").
 *
 *   cargo xtask model
 *
 * Every step that reads or changes shared memory is one step of the model; a process that is not scheduled stands still, for as
 * long as the checker likes. A ring has N units and a frame takes one of them. What is not modelled: bytes of frames, the
 * order of stores by one process (the code names a pairing for each), the extended ring itself (loom has it), classic
 * writing of native writers. `-D` switches off one measure each, to see that its assertion fails: see xtask/src/model.rs.
 */

#define N 2
#define NOBODY 0

#ifndef OLDS
#define OLDS 2          /* 1.x writers, one after the other */
#endif
#ifndef PER_OLD
#define PER_OLD 2       /* frames of each */
#endif
#ifndef ENTERERS
#define ENTERERS 2      /* native writers */
#endif

/* Process ids. */
#define OLD(round) (round)
#define OURS(nth) (OLDS + 1 + (nth))
#define READER (OLDS + 1 + ENTERERS)

/* ---- shared memory ---- */
short free = N;         /* below 0: what a 1.x writer sees as nearly 2^64 */
byte writer_pid = NOBODY;
byte word_epoch = 0;    /* writer_word */
byte word_pid = NOBODY;
bool word_closed = false;
bool entering = false;  /* extension word, bit 1 */
bool extended = false;  /* extension word, bit 0 */
byte cell[N];           /* 0: nothing was ever written here; else the number of a frame */
byte write_pos = 0;
byte written = 0;       /* payload_written_count */
byte read_pos = 0;
byte reads = 0;         /* payload_read_count */
byte head = 0;          /* frames committed in the extended ring */

/* ---- the kernel ---- */
bool alive[READER + 1];     /* by pid */
byte lock = NOBODY;         /* the writer's role lock; gone with its holder */

byte turn = OURS(0);

/* ---- what is checked ---- */
byte committed = 0;     /* classic frames; a frame's number is the count that its commit made */
byte delivered = 0;
bool counting = false;  /* a 1.x writer has committed a frame and is about to count it */
byte taken_out = 0;     /* frames of the extended ring that were read */
byte going = 1 + ENTERERS; /* processes that have not ended */

/* ---- a 1.x writer ---- */
active proctype old_writers() {
    byte round, frames, at, mine;
    short seen;

    do
    :: round < OLDS ->
        round++;
        if
        :: (writer_pid == NOBODY || (writer_pid != READER && !alive[writer_pid])) -> skip
        :: else -> goto refused
        fi;
        atomic { alive[OLD(round)] = true; writer_pid = OLD(round); at = write_pos; mine = written; frames = 0; }
        do
        :: frames < PER_OLD ->
            /* Waits for space; or gives up, or dies, at any time. */
            if
#ifdef NOBODY_LOOKS
            :: atomic { free != 0 -> seen = free; }
#else
            /* Space may seem boundless for a moment (PROTOCOL.md, "Entry"): until the reader looks, or the native writer
             * goes on. Either does before a whole ring is written. */
            :: atomic { free > 0 || (free < 0 && free + N > 0) -> seen = free; }
#endif
                assert(seen <= N);
                assert(committed - delivered < N);  /* whatever it thinks, no frame is overwritten */
            :: goto close
            :: goto die
            fi;
            atomic { assert(!extended); cell[at] = committed + 1; }
            if :: skip :: goto die fi;
            at = (at + 1) % N;
            write_pos = at;
            /* It does not die here: what a 1.x successor makes of that cannot be mended (PROTOCOL.md, "Crashes"). */
            atomic { free = free - 1; committed++; assert(!extended); counting = true; }
            /* Nor here, while somebody has died in the entry: whether a ring is full or taken is told by this count. */
            mine++;
            atomic { written = mine; counting = false; }
            if :: skip :: goto die fi;
            frames++;
        :: goto close
        od;
close:  writer_pid = NOBODY;
die:    alive[OLD(round)] = false;
refused:
        atomic { frames = 0; at = 0; mine = 0; seen = 0; }
    :: else -> break
    od;
    going--
}

/* Leaves without another step: the kernel drops the lock. */
#define MAY_DIE if :: skip :: goto die fi

/* ---- a native writer ---- */
proctype our_writer(byte me) {
    byte last_pid, last_epoch, shown;
    bool ok;
    short now;
    /* They are alike, so they come in their order. */
    atomic { lock == NOBODY && me == turn -> lock = me; alive[me] = true; turn++; }
    if :: extended -> goto join :: else fi;
    MAY_DIE;
    atomic { last_pid = writer_pid; last_epoch = word_epoch;
        ok = (last_pid == NOBODY || (last_pid == word_pid && !word_closed)); }
    if :: !ok && alive[last_pid] -> goto die :: else fi;
    if
    :: last_pid != NOBODY && ok ->
        MAY_DIE;
        if
        :: atomic { writer_pid == last_pid -> writer_pid = NOBODY; }
        :: else -> goto die
        fi;
        last_pid = NOBODY
    :: else
    fi;
    MAY_DIE;
    atomic { word_epoch = last_epoch + 1; word_pid = me; word_closed = false; }
    MAY_DIE;
    if
    :: atomic { writer_pid == last_pid -> writer_pid = me; }
    :: else -> goto withdraw
    fi;
    /* What a native writer that died has left of its entry. A count below 0 can only be one thing, and anybody may mend
     * it; that of 0 is left to the reader, unless nothing was ever written. */
    do
    :: entering ->
        now = free;
        if
        :: now < 0 ->
            MAY_DIE;
            if :: atomic { free == now -> free = now + N; } MAY_DIE; entering = false :: else fi
        :: now == 0 -> break
        :: now > 0 -> entering = false
        fi
    :: else -> break
    od;
    /* Is the ring unused? */
    now = free;
    if
    :: write_pos != 0 || read_pos != 0 || written != 0 || reads != 0 -> goto withdraw   /* classic, not modelled */
    :: else
    fi;
    if
    :: now == 0 && entering && cell[0] == 0 -> skip         /* broken off: the bytes are taken */
    :: now == N && !entering ->
        MAY_DIE;
#ifndef NO_MARK
        entering = true;
        MAY_DIE;
#endif
        if
        :: atomic { free == N -> free = 0; }
        :: else ->
#ifdef SWAP
            free = 0
#else
            entering = false;
            goto withdraw
#endif
        fi
    :: else -> goto withdraw
    fi;
    MAY_DIE;
#ifndef NO_SECOND_LOOK
    shown = writer_pid;
    if
    :: shown != me ->
        MAY_DIE;
        do
        :: now = free;
            if
            :: now < 0 ->
                MAY_DIE;
                if
                :: atomic { free == now -> free = now + N; }
                    MAY_DIE;
                    entering = false;
                    break
                :: else
                fi
            :: now > 0 -> entering = false; break   /* the reader was faster */
            :: now == 0 -> break                    /* left to it */
            fi
        od;
        goto withdraw
    :: else
    fi;
    MAY_DIE;
#endif
    if
    :: atomic { entering -> extended = true; entering = false; }
    :: else -> goto withdraw
    fi;
join:
    MAY_DIE;
    shown = writer_pid;
    if :: atomic { writer_pid == shown -> writer_pid = READER; } :: else fi;
    MAY_DIE;
    head++;
withdraw:
    MAY_DIE;
    word_closed = true;
die:
    atomic { last_pid = 0; last_epoch = 0; shown = 0; now = 0; ok = false;
        alive[me] = false; lock = (lock == me -> NOBODY : lock); going--; }
}

init {
    atomic {
        byte me = 0;
        do
        :: me < ENTERERS -> run our_writer(OURS(me)); me++
        :: else -> break
        od
    }
}

/* ---- the native reader ---- */
active proctype reader() {
    short u;
    byte at, found, my_reads;
    bool last, mark, taken;
    do
    :: extended && taken_out < head -> taken_out++
    :: extended && going == 0 && taken_out == head -> break
    :: !extended ->
        last = (going == 0);
        u = N - free;
        atomic { mark = entering; if :: extended -> goto more :: else fi; }    /* one word */
        /* Who gives bytes back takes the mark away after that. */
        if :: u == N && !mark && N - free != u -> goto more :: else fi;
        if
#ifndef NO_REPAIR
        :: u > N && mark ->
            /* What a 1.x writer had begun before all bytes were taken has been committed since. */
            if :: atomic { N - free == u -> free = free + N; } :: else -> goto more fi;
            entering = false;
            goto more
#endif
        :: u == N && mark && written <= my_reads -> taken = true; goto nothing
        :: else
        fi;
        if :: u <= 0 || u > N -> goto nothing :: else fi;   /* borne, then CorruptBuffer: see the end */
        found = cell[at];
        if
        :: found == 0 && u >= N - at ->
            /* A marker. */
            atomic { free = free + (N - at); at = 0; read_pos = 0; }
        :: found == 0 && u < N - at -> goto nothing
        :: else ->
            atomic {
                assert(found <= committed);         /* nothing uncommitted is delivered */
                assert(found == delivered + 1);     /* and nothing twice, or out of turn */
                delivered++;
            }
            at = (at + 1) % N;
            read_pos = at;
            my_reads++;
            reads = my_reads;
            free = free + 1
        fi;
        goto more;
nothing:
#ifndef NO_UNDO
        if
        :: mark ->
            /* Perhaps an entry that has ended, or died. While the reader has the writer's role no entry is under way, and
             * only a 1.x writer that had begun changes a 0. So all is read again. */
            if
            :: atomic { lock == NOBODY -> lock = READER; }
                mark = false;
                atomic { mark = entering && !extended; }
                u = free;
                if
                :: mark && u == 0 && taken ->
                    /* "counting" is borne for 100 ms. */
                    if
                    :: written <= my_reads && !counting ->
                        if :: atomic { free == 0 -> free = N; } entering = false; last = false :: else fi
                    :: else
                    fi
                :: mark && u > 0 -> entering = false
                :: else
                fi;
                lock = NOBODY
            :: else
            fi
        :: else
        fi;
#endif
        if :: last && !extended -> break :: else fi;
more:   atomic { u = 0; found = 0; mark = false; taken = false; }
    od;
    /* All others have ended, and nothing moves any more. */
    assert(extended || (delivered == committed && free == N));  /* nothing committed is lost, nor space */
    assert(!entering);                                          /* nor is a mark left */
    assert(taken_out == head)
}
