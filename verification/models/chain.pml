/* A chain: A writes IN, B1 (IN's reader) lends to B2 in OUT1, B2 forwards to C in OUT2. May B2 lend on what it has borrowed?
 *   (nothing)      it does, and keeps B1's frame until OUT2's tail has passed: wrong, B2's death frees at B1 what C looks at
 *   -DONE_HOP      it copies what is not its own: C's bytes are OUT2's
 *   -DTOLD         it lends on, and has told B1 which OUT2: when B2 is gone B1 waits for OUT2's tail, or its borrower
 */
#define N 1
#define M 3
byte cell[N], head, tail;
byte h1, t1, h2, t2;            /* OUT1, OUT2: frame k is IN's frame k */
bool copied[M];                 /* of OUT2's frames */
bool role1 = true, borrow1, role2 = true, borrow2;
bool acc1, acc2;
byte pinned;
bool stuck1, stuck2, b1_alive = true;
bool kill_b1, kill_b2, kill_c, stop_b2, stop_c, end_c;

active proctype camera() {
    do
    :: head < M && head - tail < N -> cell[head % N] = head + 1; if :: head++ :: skip fi
    :: head == M -> break
    od
}

active proctype b1() {
    byte got, k;
    bool lent[M];
    do
    :: atomic { got < head && h1 < M && role1 -> if :: acc1 -> lent[got] = true; pinned++ :: !acc1 -> goto ended fi; h1++; got++ }
    :: atomic { tail < got && lent[tail] && t1 > tail -> lent[tail] = false; pinned-- }
#ifdef TOLD
    :: atomic { tail < got && lent[tail] && !borrow1 && (!borrow2 || t2 >= h2) -> lent[tail] = false; pinned-- }
#else
    :: atomic { tail < got && lent[tail] && !borrow1 -> lent[tail] = false; pinned-- }
#endif
    :: atomic { tail < got && !lent[tail] -> tail++ }
    :: kill_b1 -> goto die
    :: timeout -> break
    od;
    assert(pinned == 0 || stuck1 || stuck2);
    goto ended;
die: b1_alive = false;
ended: skip
}

active proctype b2() {
    byte at;
    bool held[M];
    borrow1 = true; acc1 = true;
    do
    :: atomic { at < h1 && role2 && acc2 ->
#ifdef ONE_HOP
            /* copies IN's bytes, which it may look at; done with the frame then */
            assert(cell[at % N] == at + 1); copied[at] = true
#else
            held[at] = true
#endif
        }
        if :: kill_b2 -> goto die :: else fi;
        atomic { h2++; at++ }
    :: atomic { at < h1 && !role2 && h2 == at -> at++; h2++ }      /* no reader: it reads on, and forwards no more */
    :: atomic { t1 < at && held[t1] && (t2 > t1 || !borrow2) -> held[t1] = false }
    :: atomic { t1 < at && !held[t1] -> t1++ }
    :: kill_b2 -> goto die
    :: stop_b2 -> stuck1 = true; break
    :: timeout -> break
    od;
    goto ended;
die: atomic { role1 = false; borrow1 = false }
ended: skip
}

active proctype viewer() {
    byte at;
    bool has;
    borrow2 = true; acc2 = true;
    do
    :: atomic { role2 && !has && at < h2 -> has = true }
    :: atomic { has -> assert(copied[at] || cell[at % N] == at + 1); has = false; at++ }
    :: atomic { t2 < at -> t2++ }
    :: atomic { end_c && role2 -> role2 = false }
    :: atomic { !role2 && !has -> goto die }
    :: kill_c -> goto die
    :: stop_c -> stuck2 = true; break
    :: timeout -> break
    od;
    timeout;
    assert(!has || copied[at] || cell[at % N] == at + 1);
    goto ended;
die: atomic { role2 = false; borrow2 = false }
ended: skip
}

active proctype fate_b1() { if :: kill_b1 = true :: skip fi }
active proctype fate_b2() { if :: kill_b2 = true :: stop_b2 = true :: skip fi }
active proctype fate_c() { if :: end_c = true :: skip fi; if :: kill_c = true :: stop_c = true :: skip fi }
