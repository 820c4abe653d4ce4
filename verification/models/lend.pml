/* Lending: A writes IN, relay B reads IN and lends its bytes in OUT, C reads OUT. B may be followed on OUT by another relay B2,
 * which has an IN of its own (with its own A2: in the core a reader's death ends its buffer); C by another reader, whose OUT is
 * another buffer. Each may be killed between any two steps, B may also close either end, C closes its reader and
 * keeps frames, C may stand still without end. IN has N units, a frame takes one. -D switches a rule off.
 *
 *   -DONE_RELAY, -DONE_READER: no successor of B, of C; -DLEAN: a B2 to which nothing happens; M, M2: frames of A, of A2
 *
 *   spin -a lend.pml && cc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m1000000
 */
#ifndef N
#define N 2
#endif
#ifndef M
#define M 3             /* frames of each A */
#endif
#define INS 2
#define OUTS 2
#ifdef ONE_RELAY
#define L M             /* frames that OUT may carry */
#else
#define L (M + M2)
#endif
#ifndef M2
#define M2 M            /* frames of A2 */
#endif
#define FRAMES(s) (s == 0 -> M : M2)
#define HELD 2

/* ---- IN: shared memory and roles ---- */
byte cell[4];           /* INS * N: number of the frame that stands there (0 = none) */
byte head[INS];
byte tail[INS];
bool in_open[INS];      /* the reader's role lock of IN */
#define CELL(s, k) cell[(s) * N + (k) % N]

/* ---- OUT ---- */
typedef Out {
    byte head; byte tail;
    byte src[L]; byte frame[L]; bool ref[L];
    bool role;          /* reader's role lock */
    bool borrower;      /* borrower's lock */
    byte writer;        /* writer's role: 0 free, 1 + relay */
    byte offer;         /* 1 + relay that offers (its epoch) */
    byte accepted       /* the offer that C took */
};
Out out[OUTS];

/* ---- for the checks only ---- */
byte pinned[INS];       /* lent and not taken back */
byte pins[4];           /* the same by relay and OUT */
bool stuck[OUTS];       /* C stands still, alive */
byte relays_gone, readers_gone;

/* ---- what befalls them, at any time, or never ---- */
bool kill_relay[INS], ends_out[INS], ends_in[INS];
bool kill_viewer[OUTS], stops[OUTS], ends_viewer[OUTS];
proctype fate_of_relay(byte s) {
    if :: ends_out[s] = true :: skip fi;
    if :: ends_in[s] = true :: kill_relay[s] = true :: skip fi
}
proctype fate_of_viewer(byte o) {
    if :: ends_viewer[o] = true :: skip fi;
    if :: kill_viewer[o] = true :: stops[o] = true :: skip fi
}

/* ---- A: dies and is followed by another A at head whenever it likes; goes on writing into an IN whose reader is gone, as it
 * notices that late. ---- */
proctype camera(byte s) {
    byte seen;
    do
    :: head[s] < FRAMES(s) && head[s] - tail[s] < N ->      /* looks at tail */
        CELL(s, head[s]) = head[s] + 1;             /* stores the bytes; a death here leaves them in free space */
        if
        :: head[s] = head[s] + 1                    /* commits */
        :: skip                                     /* dies before it; the next one begins again */
        fi
    :: head[s] == FRAMES(s) -> break
    od
}

inline take_back(o_) {
    /* all that was lent to OUT o_ */
    k = 0;
    do
    :: k < M -> if :: lent[k] == 1 + o_ -> lent[k] = 0; spot[k] = 0; pinned[s]--; pins[s * 2 + o_]-- :: else fi; k++
    :: else -> break
    od;
    k = 0
}

/* ---- B (relay 0) and its successor on OUT (relay 1) ---- */
proctype relay(byte s) {
    byte o = 0, k = 0, got = 0;
    bool connected = false, closing = false;
    byte lent[M];       /* 1 + OUT to which frame k was lent; 0 = to none */
    byte spot[M];
    in_open[s] = true;
    do
    /* connects, and offers */
    :: atomic { !connected && !closing && out[o].role && out[o].writer == 0 && (s == 0 || relays_gone > 0 || o == 1) ->
            out[o].writer = 1 + s; connected = true; }
        out[o].offer = 1 + s
    /* OUT's reader is gone: the next OUT */
    :: atomic { !out[o].role && o + 1 < OUTS && out[o + 1].role ->
            if :: connected -> out[o].writer = 0; connected = false :: else fi;
#ifdef FIFO_IN_WRITER
            take_back(o);
#endif
            o++; }
    /* forwards: lends before it commits, or copies */
    :: atomic { connected && got < head[s] && out[o].head < L ->
            if
#ifndef NO_HANDSHAKE
            :: out[o].accepted == 1 + s -> lent[got] = 1 + o; spot[got] = out[o].head; pinned[s]++; pins[s * 2 + o]++
#else
            :: out[o].role -> lent[got] = 1 + o; spot[got] = out[o].head; pinned[s]++; pins[s * 2 + o]++
#endif
            :: skip
            fi; }
        if :: kill_relay[s] -> goto die :: else fi;
        d_step { out[o].src[out[o].head] = s; out[o].frame[out[o].head] = got; out[o].ref[out[o].head] = (lent[got] != 0);
            out[o].head++; got++; }
    /* takes back what OUT's tail has passed; an old OUT's too */
    :: atomic { tail[s] < got && lent[tail[s]] != 0 && out[lent[tail[s]] - 1].tail > spot[tail[s]] ->
            pinned[s]--; pins[s * 2 + lent[tail[s]] - 1]--; lent[tail[s]] = 0; spot[tail[s]] = 0; }
    /* takes back everything when there is no borrower */
#ifdef NO_BORROWER_LOCK
    :: atomic { tail[s] < got && lent[tail[s]] != 0 && !out[lent[tail[s]] - 1].role ->
#else
    :: atomic { tail[s] < got && lent[tail[s]] != 0 && !out[lent[tail[s]] - 1].borrower ->
#endif
            pinned[s]--; pins[s * 2 + lent[tail[s]] - 1]--; lent[tail[s]] = 0; spot[tail[s]] = 0; }
    /* gives back to A */
    :: atomic { tail[s] < got && lent[tail[s]] == 0 && in_open[s] -> tail[s]++; }
    /* closes OUT's writer and goes on reading IN (for another output; here it only waits for what it lent) */
    :: atomic { ends_out[s] && connected && !closing -> closing = true; connected = false; out[o].writer = 0; relays_gone = 1;
#ifdef FIFO_IN_WRITER
            take_back(o);
#endif
        }
    /* closes IN's reader while it lives: A may not have noticed */
    :: atomic { ends_in[s] && in_open[s] ->
#ifdef FIFO_DROPPED_AT_CLOSE
            take_back(0); take_back(1); tail[s] = got;
#endif
            in_open[s] = false; }
        goto die
    :: kill_relay[s] -> goto die
    :: timeout -> break     /* no process can do anything: the end */
    od;
    /* Nothing is lost: whatever is lent still is so to somebody who stands still, and lives. */
    assert(pins[s * 2] == 0 || stuck[0]);
    assert(pins[s * 2 + 1] == 0 || stuck[1]);
    /* And A has got everything back otherwise. */
    assert(pinned[s] != 0 || tail[s] == got);
    goto ended;
die:
    atomic {
        in_open[s] = false;
        if :: out[o].writer == 1 + s -> out[o].writer = 0 :: else fi;
        if :: relays_gone < 2 -> relays_gone++ :: else fi;
        pinned[s] = 0; pins[s * 2] = 0; pins[s * 2 + 1] = 0;
        k = 0; got = 0; connected = false; closing = false; o = 0;
        do :: k < M -> lent[k] = 0; spot[k] = 0; k++ :: else -> break od; k = 0
    }
ended: skip
}

/* What C looks at when it resolves a reference. */
#ifdef SOURCE_BY_OFFER
#define SOURCE(o, at) (out[o].offer - 1)
#else
#define SOURCE(o, at) out[o].src[at]
#endif

/* ---- C ---- */
proctype viewer(byte o) {
    byte at = 0, i = 0, n = 0;
    byte offer;
    byte h_src[HELD], h_frame[HELD], h_at[HELD]; bool h_used[HELD];
    bool done[L];
    bool open = true;
    do
    /* takes an offer: the lock first, the word then */
    :: atomic { open && out[o].offer != 0 && out[o].accepted != out[o].offer -> offer = out[o].offer; }
#ifdef ACCEPT_BEFORE_LOCK
        out[o].accepted = offer;
        if :: kill_viewer[o] -> goto die :: else fi;
        out[o].borrower = true
#else
        out[o].borrower = true;
        if :: kill_viewer[o] -> goto die :: else fi;
        out[o].accepted = offer
#endif
    /* reads a frame */
    :: atomic { open && at < out[o].head && n < HELD ->
            if
            :: out[o].ref[at] ->
                i = (h_used[0] -> 1 : 0);
                h_used[i] = true; h_src[i] = SOURCE(o, at); h_frame[i] = out[o].frame[at]; h_at[i] = at; n++
            :: else -> done[at] = true
            fi;
            at++; i = 0; }
    /* looks at one for the last time, then releases it */
    :: atomic { h_used[0] -> assert(CELL(h_src[0], h_frame[0]) == h_frame[0] + 1); h_used[0] = false; done[h_at[0]] = true; n--;
            h_src[0] = 0; h_frame[0] = 0; h_at[0] = 0 }
    :: atomic { h_used[1] -> assert(CELL(h_src[1], h_frame[1]) == h_frame[1] + 1); h_used[1] = false; done[h_at[1]] = true; n--;
            h_src[1] = 0; h_frame[1] = 0; h_at[1] = 0 }
    /* gives back, late or soon */
    :: atomic { out[o].tail < at && done[out[o].tail] -> out[o].tail++; }
    /* closes its reader; frames live on */
    :: atomic { ends_viewer[o] && open -> open = false; out[o].role = false;
#ifdef LOCK_WITH_ROLE
            out[o].borrower = false;
#endif
        }
    :: atomic { !open && n == 0 ->
#ifdef LOCK_WITH_HANDLES
            /* something else that shares the reader's memory lives on, as an InterruptHandle */
            if :: goto die :: goto stand fi;
#endif
            goto die }
    /* stands still without end, with or without frames: alive, and may look */
    :: atomic { stops[o] && (open || n > 0) -> stuck[o] = true; break }
    :: kill_viewer[o] -> goto die
    :: timeout -> goto gone
    od;
    timeout;
    atomic {
        assert(!h_used[0] || CELL(h_src[0], h_frame[0]) == h_frame[0] + 1);
        assert(!h_used[1] || CELL(h_src[1], h_frame[1]) == h_frame[1] + 1);
    }
    /* What it has not read yet it may read, if its reader is open. */
    do
    :: open && at < out[o].head ->
        assert(!out[o].ref[at] || CELL(SOURCE(o, at), out[o].frame[at]) == out[o].frame[at] + 1); at++
    :: else -> goto gone
    od;
stand:
    timeout; goto gone;
die:
    atomic { out[o].role = false; out[o].borrower = false; stuck[o] = false; readers_gone++; open = false; n = 0; at = 0 }
gone: skip
}

init {
    atomic {
        out[0].role = true;
        run camera(0); run relay(0); run viewer(0); run fate_of_relay(0); run fate_of_viewer(0);
#ifndef ONE_RELAY
#ifdef LEAN
        /* B2's frames are there already, and nothing befalls it */
        head[1] = M2; cell[N] = 1; run relay(1);
#else
        run camera(1); run relay(1); run fate_of_relay(1);
#endif
#endif
    }
    /* C is replaced, by a reader whose OUT is another buffer. */
#ifndef ONE_READER
    atomic { readers_gone == 1 -> out[1].role = true; run viewer(1); run fate_of_viewer(1); }
#endif
}
