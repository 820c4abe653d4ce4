/* What is lent through a buffer whose writer closes: B1 lends to C through OUT, and sleeps in IN until there is a frame or C gives back. OUT's writer, which another thread
 * of B1 has, closes; B2 becomes OUT's writer, lends to C too, and sleeps on the same doorbell, `loans_bell` (docs/PROTOCOL.md, "Sharing"; crates/zerobuffer/src/ring/lending.rs).
 * No frame comes, other than one to B2. Both must learn that their loan is back, and a sleeper without end is an invalid end. B1's writer may close at any moment, or not at all; then
 * B2 does not come. Stores are seen at once.
 *
 *   (nothing)         once the writer has closed, the lender sets the doorbell no more, and sleeps in slices
 * Each of these leaves a measure out:
 *   -DNO_SLICES       it sleeps without a limit
 *   -DSTILL_SETS      it goes on with the doorbell, also without a limit
 *   -DNO_CALL         the writer that closes does not ring
 *   -DSAME_VALUE      both set it to the same value: between B1's last look and its sleep it may be rung, and set by B2
 *   -DRINGS_FIRST     the writer that closes rings before it says so
 */
#define SLEEPING 1
byte bell, tail;                /* OUT's */
bool closed, free;              /* B1's: its writer has closed; it has given the role up */
bool lent;                      /* B2's loan stands in OUT behind B1's */
bool came;                      /* B2 was woken by a frame */
bool queued[2], woken[2];

#define WAKE atomic { woken[0] = woken[0] || queued[0]; woken[1] = woken[1] || queued[1]; queued[0] = false; queued[1] = false }

active proctype borrower() {
    byte seen;
end:
    do
    :: tail == 0 || (tail == 1 && lent) ->
        tail++;
        if
        :: bell & SLEEPING ->
            atomic { seen = bell; bell = 0 }
            if :: seen & SLEEPING -> WAKE :: else fi
        :: else
        fi
    od
}

#ifdef NO_CALL
#define CALL skip
#else
#define CALL bell = 0; WAKE
#endif
active proctype writer_of_b1() {
    if
    :: skip
    ::
#ifdef RINGS_FIRST
        CALL;
        closed = true;
#else
        closed = true;
        CALL;
#endif
        free = true
    fi
}

/* What the doorbell says while it sleeps. */
#ifdef SAME_VALUE
#define MINE SLEEPING
#else
#define MINE (SLEEPING | me << 1)
#endif
#define HAS_CLOSED (me == 0 && closed)
proctype lender(byte me) {
    byte armed;
    bool limited, listens;
    if :: me == 1 -> end_alone: free; lent = true :: else fi;
    do
    :: tail > me -> break
    :: else ->
#ifdef STILL_SETS
        listens = true;
#else
        listens = !HAS_CLOSED;
#endif
        armed = MINE;
        if :: listens -> bell = MINE; armed = bell :: else fi;
        if :: tail > me -> break :: else fi;
#if defined(NO_SLICES) || defined(STILL_SETS)
        limited = false;
#else
        limited = HAS_CLOSED;
#endif
        if :: !(armed & SLEEPING) -> goto again :: else fi;
        if :: tail > me -> break :: else fi;
        if :: !listens -> goto waits :: else fi;
        if
        :: atomic { bell == armed -> queued[me] = true; woken[me] = false }
            if
            :: woken[me]
            :: limited -> queued[me] = false
            :: me == 1 && !came -> came = true; queued[me] = false
            fi
        :: bell != armed
        fi;
        goto again;
        /* Only a frame would wake it. */
waits:  limited;
again:  /* An owner that is awake may say so. */
        if :: me == 1 -> bell = 0 :: skip fi
    od
}

init { atomic { run lender(0); run lender(1) } }
