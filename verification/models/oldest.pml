/* A lender that sleeps waits for the oldest lent frame alone: it sets `loans_bell` of one output through which that frame is lent (docs/PROTOCOL.md, "Sharing";
 * crates/zerobuffer/src/ring/lending.rs, sharing/loans.rs). Another thread of it lends F frames meanwhile, in any order, through O outputs, L times at most. Each has one borrower, who gives back in
 * the order of its own references, dies between any two steps, or holds what it has for good. (A viewer that takes a dead one's place has an output of its own, so it is one of the O.)
 * The watcher tells of deaths in outputs that it watches. One frame comes in IN, at any time or not at all, unless -DNO_FRAME. Stores are seen at once: bell.pml has delayed ones.
 * Must hold: at the end the lender has taken the oldest frame back, or one borrower lives that has not given it back.
 *
 * Each of these leaves a measure out:
 *   -DNO_LOOK         the lender does not look whether the frame came back behind setting the doorbell, but before
 *   -DSTAYS           it goes on with the output that it slept for, as long as something is lent there
 *   -DNO_TEST         it does not test the borrower's lock
 *   -DTESTS_FIRST     it tests the lock before the watch stands
 *   -DOWN_LATE        it sets `reader_bell` behind its look for the oldest frame
 *   -DNO_CALL         a thread that lends does not ring `reader_bell`
 *   -DFIRST_CALLS     it does so only where nothing was lent before
 *   -DCALLS_EARLY     it does so before the loan is in the books
 *   -DNO_RING         a borrower rings for the last thing alone that was lent to it
 */
#ifndef F
#define F 2
#endif
#ifndef O
#define O 2
#endif
#ifndef L
#define L 3
#endif
#define NONE O

bool own, bell[O];              /* reader_bell and loans_bell have *sleeping* */
byte ref[O * F];                /* frames of the references in an output, in its order */
byte sent[O], tail[O];          /* how many were committed, and given back */
byte booked[O], taken[O];       /* loans that were entered in the books, and taken out of them */
bool any, locked;               /* something is lent; the books' lock */
byte newest;                    /* 1 + the newest frame that was lent */
bool gone[O];                   /* the books say that the borrower is gone */
bool dead[O];                   /* its lock is free */
bool watched[O], news;
bool came, queued;              /* a frame came in IN; the lender sleeps */
byte on;                        /* the output that it sleeps for */

#define LOCK atomic { !locked -> locked = true }
#define LENT(o) (taken[o] < booked[o])
#define RING_OWN if :: own -> own = false; queued = false :: else fi

proctype borrower(byte o) {
    bool seen;
    do
    :: tail[o] < sent[o] ->
        tail[o]++;
        if
#ifdef NO_RING
        :: tail[o] < sent[o] -> skip
        :: tail[o] == sent[o] ->
#else
        :: true ->
#endif
            if
            :: bell[o] ->
                if
                :: atomic { bell[o] = false }
                    if
                    :: atomic { if :: queued && on == o -> queued = false :: else fi }
                    :: goto dies
                    fi
                :: goto dies
                fi
            :: !bell[o]
            fi
        fi
    :: goto dies
    :: break                    /* it holds what it has, and what comes */
    od;
    goto ended;
dies:
    atomic { dead[o] = true; seen = watched[o] };
    if
    :: seen -> news = true; own = false; queued = false
    :: else
    fi;
ended: skip
}

/* Another thread of the lender's process lends frames that it has. */
active proctype lends() {
    byte o, f, n;
    bool oldest, done[O * F];
    do
    :: atomic { n < L ->
        n++;
        select(o : 0 .. O - 1); select(f : 0 .. F - 1);
        if :: done[o * F + f] -> goto ended :: else -> done[o * F + f] = true fi
        }
        LOCK;
        if
        :: gone[o] -> locked = false
        :: else ->
#ifdef CALLS_EARLY
            RING_OWN;
#endif
            atomic { ref[o * F + sent[o]] = f; sent[o]++ };
            /* The books are seen under their lock alone, so this may be one step. */
            atomic {
                booked[o]++;
                oldest = !any || f + 1 < newest;
#ifdef FIRST_CALLS
                oldest = !any;
#endif
                if :: f + 1 > newest -> newest = f + 1 :: else fi;
                any = true;
                locked = false
            };
#if !defined(NO_CALL) && !defined(CALLS_EARLY)
            if :: oldest -> RING_OWN :: else fi;
#endif
            oldest = false
        fi
    :: break
    od;
ended: skip
}

#ifndef NO_FRAME
active proctype frame() {
    if
    :: came = true; RING_OWN
    :: skip
    fi
}
#endif

/* The oldest frame that is lent: of several loans, that of the output that was added last. */
inline find() {
    d_step {
        o = NONE; best = F; q = 0;
        do
        :: q < O ->
            p = taken[q];
            do
            :: p < booked[q] -> if :: ref[q * F + p] < best || (ref[q * F + p] == best && q > o) -> best = ref[q * F + p]; o = q; at = p :: else fi; p++
            :: else -> break
            od;
            q++
        :: else -> break
        od;
        p = 0; q = 0; best = 0; if :: o == NONE -> at = 0 :: else fi
    }
}
#define RETURNED (tail[o] > at)
/* Takes back what the tails have passed, and all that is lent through `o` if its lock is free. */
inline settle() {
    d_step {
        !locked -> q = 0; any = false;
        do
        :: q < O ->
            if :: gone[q] :: !gone[q] && tail[q] < booked[q] -> taken[q] = tail[q] :: else -> taken[q] = booked[q] fi;
#if !defined(NO_TEST) && !defined(TESTS_FIRST)
            if :: q == o && LENT(q) && dead[q] -> gone[q] = true; taken[q] = booked[q] :: else fi;
#endif
#ifdef TESTS_FIRST
            if :: q == o && LENT(q) && free -> gone[q] = true; taken[q] = booked[q] :: else fi;
#endif
            any = any || LENT(q);
            q++
        :: else -> break
        od;
        q = 0
    }
}

active proctype lender() {
    byte o, at, p, q, best;
    bool has_read;
#ifdef TESTS_FIRST
    bool free;
#endif
#ifdef STAYS
    byte kept = NONE;
#endif
begin:
    news = false;
    if :: came && !has_read -> has_read = true; own = false :: else fi;
    if
    :: !any ->
        /* A reader that has lent nothing; a thread that lends rings it. */
        own = true;
        if :: any || news || (came && !has_read) -> goto begin :: else fi;
        on = NONE;
        if :: atomic { own -> queued = true } :: !own -> goto begin fi
    :: any ->
#ifndef OWN_LATE
        own = true;
#endif
again:
        atomic { !locked -> find() };
        if :: o == NONE -> goto begin :: else fi;
#ifdef OWN_LATE
        own = true;
#endif
#ifdef STAYS
        if :: kept != NONE && LENT(kept) -> o = kept; at = taken[o] :: else fi;
        kept = o;
#endif
#ifdef NO_LOOK
        settle();
        if :: at < taken[o] -> goto again :: else fi;
#endif
        bell[o] = true;
#ifdef TESTS_FIRST
        free = dead[o];
#endif
        watched[o] = true;
#ifndef NO_LOOK
        settle();
        if :: at < taken[o] -> goto again :: else fi;
        if :: !bell[o] || RETURNED -> goto begin :: else fi;
#endif
        if :: !own || news || (came && !has_read) -> goto begin :: else fi;
        on = o;
        if :: atomic { own && bell[o] -> queued = true } :: !(own && bell[o]) -> goto begin fi
    fi;
    if
    :: !queued -> goto begin
    :: timeout ->
        /* Nothing happens any more. */
        find();
        if
        :: o == NONE
        :: else ->
            best = ref[o * F + at];
            q = 0;
            do
            :: q < O && !dead[q] ->
                p = taken[q];
                do
                :: p < booked[q] && !(ref[q * F + p] == best && tail[q] <= p) -> p++
                :: p < booked[q] && ref[q * F + p] == best && tail[q] <= p -> goto ended
                :: p >= booked[q] -> break
                od;
                q++
            :: q < O && dead[q] -> q++
            :: q == O -> assert(false)
            od
        fi
    fi;
ended: skip
}

init { atomic { byte i; for (i : 0 .. O - 1) { run borrower(i) } } }
