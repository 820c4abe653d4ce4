/* If IN could be taken over from a dead B (a buffer that is kept, adopted a second time; the core does not do that today): B lent
 * frames to C in OUT and died; B2 becomes IN's reader and goes on at `tail`. Its books know nothing of what B had lent.
 *   (nothing)     B2 gives back what it has read
 *   -DWAIT_OUT    B2 waits until the borrower's lock of OUT is free; possible only if IN says which OUTs there are (or were)
 *   -DWAIT_IN     borrowers hold a shared lock on IN too (a read-only descriptor may); B2 waits until none does
 */
#define N 1
#define M 2
byte cell[N], head, tail;
byte out_head, out_tail, owner_of[M]; bool role = true, borrower, accepted;
bool in_lock;                   /* C's shared lock on IN */
byte reader = 1;                /* of IN: 1 = B, 2 = B2, 0 = none */
bool stuck; bool kill_b, kill_c, stop_c, end_c;

active proctype camera() {
    do
    :: head < M && head - tail < N -> cell[head % N] = head + 1; head++
    :: head == M -> break
    :: timeout -> assert(stuck || reader == 0 || !role); break
    od
}
active proctype b() {
    byte got; bool lent[M];
    do
    :: atomic { got < head && accepted -> lent[got] = true; out_head++; got++ }
    :: atomic { tail < got && (out_tail > tail || !borrower) -> tail++ }
    :: kill_b -> break
    :: timeout -> goto ended
    od;
    reader = 0;
ended: skip
}
active proctype b2() {
    byte got;
    if :: reader == 0 :: timeout -> goto ended fi;
#ifdef WAIT_OUT
    if :: !borrower -> skip :: timeout -> assert(stuck || accepted); goto ended fi;
#endif
#ifdef WAIT_IN
    if :: !in_lock -> skip :: timeout -> assert(stuck || accepted); goto ended fi;
#endif
    reader = 2; got = tail;
    do
    :: atomic { got < head -> assert(cell[got % N] == got + 1); got++ }     /* reads, has no output, gives back */
    :: atomic { tail < got -> tail++ }
    :: timeout -> break
    od;
ended: skip
}
active proctype viewer() {
    byte at; bool has;
    in_lock = true; borrower = true; accepted = true;
    do
    :: atomic { role && !has && at < out_head -> has = true }
    :: atomic { has -> assert(cell[at % N] == at + 1); has = false; at++ }
    :: atomic { out_tail < at -> out_tail++ }
    :: atomic { end_c && role -> role = false }
    :: atomic { !role && !has -> goto die }
    :: kill_c -> goto die
    :: stop_c -> stuck = true; break
    :: timeout -> break
    od;
    timeout; assert(!has || cell[at % N] == at + 1);
    goto ended;
die: atomic { role = false; borrower = false; in_lock = false }
ended: skip
}
active proctype fate_b() { if :: kill_b = true :: skip fi }
active proctype fate_c() { if :: end_c = true :: skip fi; if :: kill_c = true :: stop_c = true :: skip fi }
