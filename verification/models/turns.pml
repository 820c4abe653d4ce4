/* Two lenders use one doorbell, OUT's `loans_bell` (docs/PROTOCOL.md, "Sharing"; crates/zerobuffer/src/sharing/bell.rs): each sleeps in a call, or has an event loop poll its
 * descriptor, beside which its listener sleeps. A has OF_A loans in OUT. Then B has one behind them: as the lender of OUT's next writer, once A's has closed, which may be at any
 * moment; or with -DSAME as another reader whose frames the same writer lends. The borrower gives back as much as it likes. The other borrowers and frames are left out, and so are
 * deaths, of which the watcher tells. Stores are seen at once.
 *   -DA_CALLS, -DB_CALLS  A, or B, sleeps in a call; otherwise its descriptor is polled
 * Must hold: at the end each lender knows of all that the borrower has given back.
 *
 * Each of these leaves a measure out:
 *   -DOWN_TURNS       *turn* is the lender's own number, instead of the next one behind that in the doorbell
 *   -DNO_LOCK         the doorbell is set without a lock which the writer that closes needs
 *   -DCLOSED_FIRST    a listener looks first whether the writer has closed, then at the doorbell
 *   -DSILENT          a writer that closes does not change a doorbell that does not say *sleeping*
 *   -DBY_FLAGS        a lender takes the doorbell for armed if anybody has armed it
 *   -DSAME -DRUNG_FLAGS  a listener has a doorbell armed again only if it has *descriptor*
 *   -DSAME -DNAMES    a lender names its FIFO though another one lends through the output, too
 *   -DSAME -DSETS_AWAKE  a lender that wakes up stores the doorbell of an owner that is awake
 *   -DNO_SLICES       once the writer has closed, its lender sleeps without a limit
 */
#ifndef OF_A
#define OF_A 2                  /* A's loans */
#endif
#define SLEEPING 1
#define DESCRIPTOR 2
#define TURN 4
#ifdef SAME
#define TURNS 8                 /* two that sleep in calls may set it without end */
#else
#define TURNS 16                /* more than there are settings */
#endif
#define NEXT (((word / TURN + 1) % TURNS) * TURN)

byte word, fifo;                /* the doorbell; 1 + whose FIFO is named behind it */
byte sent = OF_A, tail;         /* references in OUT, and those that were given back */
bool closed, gave_up;           /* A's writer has closed, and given its role up */
bool in_loop[2], came[2], ready[2], kicked[2];
bool queued[4];                 /* in the futex: the callers, and the listeners */
byte known[2];                  /* returns that the lender knows of */
byte mine[2];                   /* what it has set */
byte turn[2];
bool locked;

#define WAKE atomic { queued[0] = false; queued[1] = false; queued[2] = false; queued[3] = false }
#define LOANS(i) (i == 0 -> OF_A : 1)
#define RETURNED(i) (i == 0 -> (tail < OF_A -> tail : OF_A) : (tail <= OF_A -> 0 : 1))
#ifdef SAME
#define HAS_CLOSED(i) false
#else
#define HAS_CLOSED(i) (i == 0 && closed)
#endif
#ifdef NO_LOCK
#define LOCK skip
#define UNLOCK skip
#else
/* In each process one; the one of B's is of no use where A has closed. */
#define LOCK atomic { !locked -> locked = true }
#define UNLOCK locked = false
#endif

active proctype borrower() {
    byte seen, at;
    do
    :: tail < sent ->
        tail++;
        if
        :: word & SLEEPING ->
            atomic { seen = word; word = word & ~SLEEPING };
            if :: seen & DESCRIPTOR -> at = fifo :: else fi;
            if
            :: seen & SLEEPING ->
                if
                :: (seen & DESCRIPTOR) && at != 0 -> ready[at - 1] = true
                :: WAKE         /* there is no FIFO, or it cannot open it */
                fi
            :: else
            fi;
            atomic { seen = 0; at = 0 }
        :: else
        fi
    :: break
    od
}

#ifndef SAME
active proctype writer_of_a() {
    if
    :: skip
    ::
        LOCK;
        closed = true;
#ifdef SILENT
        word = word & ~SLEEPING;
#else
        word = NEXT;
#endif
        UNLOCK;
        WAKE;
        gave_up = true
    fi
}
#endif

/* Sets the doorbell, unless the writer has closed. */
#ifdef OWN_TURNS
#define VALUE(i, kind) turn[i] = (turn[i] + TURN) % (TURN * TURNS); mine[i] = SLEEPING | kind | turn[i]
#else
#define VALUE(i, kind) mine[i] = SLEEPING | kind | NEXT
#endif
#ifdef SAME
#ifdef NAMES
#define FIFO(i) 1 + i
#else
#define FIFO(i) (came[1] -> 0 : 1 + i)
#endif
#else
#define FIFO(i) 1 + i
#endif
#define SET(i, kind) \
    if \
    :: !HAS_CLOSED(i) -> \
        atomic { VALUE(i, kind); if :: kind != 0 -> fifo = FIFO(i) :: else fi }; \
        atomic { word = mine[i]; listens = true } \
    :: else -> listens = false \
    fi

#ifdef BY_FLAGS
#define IS_MINE(i) ((word & (SLEEPING | DESCRIPTOR)) == (SLEEPING | DESCRIPTOR))
#else
#define IS_MINE(i) (word == mine[i] && (word & SLEEPING))
#endif
#ifdef NO_SLICES
#define LIMITED(flag) false
#else
#define LIMITED(flag) flag
#endif

proctype lender(byte i) {
    bool listens, has_closed;
    if
    :: i == 1 ->
#ifdef SAME
        if :: skip :: goto ended fi;
#else
        gave_up;
#endif
        atomic { came[1] = true; sent = OF_A + 1 }
    :: else -> came[0] = true
    fi;
    if :: in_loop[i] -> goto polled :: else fi;
called:
    atomic { known[i] = RETURNED(i); if :: known[i] == LOANS(i) -> goto ended :: else fi };
    LOCK; SET(i, 0); UNLOCK;
    has_closed = HAS_CLOSED(i);
    if :: RETURNED(i) > known[i] -> goto called :: else fi;
    if
    :: listens ->
        if
        :: atomic { word == mine[i] -> queued[i] = true }
            if
            :: !queued[i]
            :: LIMITED(has_closed) && RETURNED(i) > known[i] -> queued[i] = false
            fi
        :: word != mine[i]
        fi
    :: else -> LIMITED(true) && RETURNED(i) > known[i]
    fi;
#ifdef SETS_AWAKE
    if :: listens -> word = mine[i] & ~SLEEPING :: else fi;
#endif
    atomic { listens = false; has_closed = false; goto called };
polled:
    atomic { ready[i] -> ready[i] = false };
    if
    :: HAS_CLOSED(i) || IS_MINE(i)
    :: else ->
        LOCK; SET(i, DESCRIPTOR); UNLOCK;
        kicked[i] = true
    fi;
    atomic { listens = false; known[i] = RETURNED(i); if :: known[i] == LOANS(i) :: else -> goto polled fi };
ended: skip
}

#ifdef RUNG_FLAGS
#define IS_RUNG(i) ((seen & (SLEEPING | DESCRIPTOR)) == DESCRIPTOR)
#else
#define IS_RUNG(i) (came[i] && !(seen & SLEEPING) && !has_closed)
#endif
proctype listener(byte i) {
    byte seen;
    bool has_closed;
again:
    if :: known[i] == LOANS(i) -> goto ended :: else fi;
#ifdef CLOSED_FIRST
    atomic { kicked[i] = false; has_closed = HAS_CLOSED(i) };
    seen = word;
#else
    atomic { kicked[i] = false; seen = word };
    has_closed = HAS_CLOSED(i);
#endif
    if :: IS_RUNG(i) || RETURNED(i) > known[i] -> ready[i] = true :: else fi;
    if
    :: atomic { word == seen && !kicked[i] -> queued[2 + i] = true };
        if
        :: !queued[2 + i]
        :: kicked[i] -> queued[2 + i] = false
        :: LIMITED(has_closed) && RETURNED(i) > known[i] && !ready[i] -> queued[2 + i] = false
        fi
    :: word != seen || kicked[i]
    fi;
    atomic { seen = 0; has_closed = false; goto again };
ended: skip
}

active proctype end() {
    timeout;
    assert(known[0] == RETURNED(0));
    assert(!came[1] || known[1] == RETURNED(1))
}

init {
    atomic {
#ifndef A_CALLS
        in_loop[0] = true; ready[0] = true; run listener(0);
#endif
#ifndef B_CALLS
        in_loop[1] = true; ready[1] = true; run listener(1);
#endif
        run lender(0); run lender(1)
    }
}
