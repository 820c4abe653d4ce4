/* A mutable duplex server: it changes the request in C_request and answers with a reference to it; the client, C_request's writer,
 * has those bytes mapped. Each client is one thread, which sends K requests and takes responses in any order that it likes, holds
 * one at most, closes (perhaps holding one) or is killed; then the next client comes. The server may be killed.
 * Must hold: a held response never changes; a client waits for space in vain only while a live client holds a response, or the server is stuck.
 *   (nothing)   always lent           -DHALF   only while at most half of C_request is in use
 *   -DCOPY      today's server, with ROOM frames in C_response
 *   -DDRAIN     a client that waits for space takes in what it has not read, as copies
 *   -DFORGETS   the server forgets what it has lent when the client's end is told
 */
#ifndef N
#define N 2
#endif
#ifndef K
#define K 3
#endif
#ifndef ROOM
#define ROOM 2
#endif
#define F (2 * K)
byte cell[N], owner[F], head, tail;
typedef Resp { byte head, tail; byte frame[K]; bool ref[K]; bool role; bool borrower; bool waiting; byte holds };
Resp resp[2];
byte came;                      /* clients that have had the writer's role of C_request, and given it up */
bool server_open = true;
bool kill_server, stop_server, stuck, kill_client[2], ends[2];

active proctype server() {
    byte got, c;
    byte lent[F], spot[F];
    do
    :: atomic { got < head -> c = owner[got]; cell[got % N] = got + 101; }
        if :: kill_server -> goto die :: else fi;
        atomic {
            if
            :: !resp[c].role -> skip                            /* there is no client */
#ifdef COPY
            :: resp[c].role && resp[c].head - resp[c].tail < ROOM -> resp[c].head++
#else
            :: resp[c].role ->
                resp[c].frame[resp[c].head] = got;
#ifdef HALF
                if :: head - tail > N / 2 -> goto sent :: else fi;
#endif
                resp[c].ref[resp[c].head] = true;
                lent[got] = 1 + c; spot[got] = resp[c].head;
sent:           resp[c].head++
#endif
            :: kill_server -> goto die
            fi;
            got++
        }
    :: atomic { tail < got && lent[tail] != 0 && (resp[lent[tail] - 1].tail > spot[tail] || !resp[lent[tail] - 1].borrower
#ifdef FORGETS
            || !resp[lent[tail] - 1].role
#endif
            ) -> lent[tail] = 0; spot[tail] = 0 }
    :: atomic { tail < got && lent[tail] == 0 -> tail++ }
    :: kill_server -> goto die
    :: stop_server -> stuck = true; goto ended
    od;
die: server_open = false;
ended: skip
}

#define CHECK assert(!resp[c].ref[it] || cell[resp[c].frame[it] % N] == resp[c].frame[it] + 101)

proctype client(byte c) {
    byte sent, at, it;
    bool has;
    /* gets the writer's role, makes C_response */
    atomic { came == c -> resp[c].role = true; resp[c].borrower = true }
    do
    :: sent < K && !ends[c] ->                          /* send(): waits for space */
        resp[c].waiting = true;
        do
        :: atomic { head - tail < N && head < F -> cell[head % N] = head + 1; owner[head] = c; }
            if :: kill_client[c] -> goto die :: else fi;
            head++; sent++;
            break
#ifdef DRAIN
        :: atomic { !has && at < resp[c].head -> it = at; CHECK; at++; resp[c].tail = at }
#endif
        :: !server_open -> goto close                   /* ReaderDead */
        :: kill_client[c] -> goto die
        :: timeout -> assert(resp[0].holds > 0 || resp[1].holds > 0 || stuck); goto close
        od;
        resp[c].waiting = false
    :: atomic { !has && at < resp[c].head -> has = true; it = at; at++; resp[c].holds++ }
    :: atomic { has -> CHECK; has = false; resp[c].holds--; resp[c].tail = at }
    :: sent == K && at == sent && !has -> break
    :: ends[c] -> break
    :: !server_open -> break
    :: kill_client[c] -> goto die
    :: timeout -> break
    od;
close:
    resp[c].role = false;
    came++;
    /* A response may be held on, for long. */
    if
    :: has -> if :: atomic { CHECK; has = false; resp[c].holds-- } :: timeout; CHECK fi
    :: else
    fi;
    resp[c].borrower = false;
    goto gone;
die:
    atomic { resp[c].role = false; resp[c].borrower = false; resp[c].holds = 0; came++ }
gone: skip
}

proctype fate(byte c) { if :: kill_client[c] = true :: ends[c] = true :: skip fi }
init { atomic { run client(0); run client(1); run fate(0); run fate(1) }
    if :: kill_server = true :: stop_server = true :: skip fi }
