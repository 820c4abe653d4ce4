/* A tee: A writes IN; B forwards each frame to output 0 (block; with -DBLOCKS=2 also 1) and the others of three (drop), whose readers may be killed or stand
 * still without end. Must hold: A gets through unless a block output's reader stands still; no byte of a held frame changes.
 *   -DLEND         drop outputs are lent IN's bytes
 *   -DLEND -DSHARE the same, one frame each, and only while at most half of IN is in use
 *   -DCOPY         drop outputs get copies (their own OUT's bytes, CREDIT frames)
 *   -DPOOL         one copy into a pool of slots, which both drop outputs are lent; a slot without holder is taken
 *   -DPOOL -DREMOVED  the same, with an output that is removed, and added again, while its viewer holds what it has; its frame may take the last slot. Where there is no slot, or the
 *                  viewer has not accepted the pool yet, the output gets a copy. Left out: -DFORGETS (the slots of an output that was removed count as free), -DWAITS (for
 *                  a slot, instead of the copy), -DTAKES (the first slot, where none is free)
 */
#define N 2
#ifndef M
#define M 4
#endif
#define OUTS 3
#ifndef BLOCKS
#define BLOCKS 1                /* outputs 0 .. BLOCKS-1 block */
#endif
#define CREDIT 1
#ifdef REMOVED
#define SLOTS 2                 /* with one that is removed, and one that holds what it has, it is full */
#else
#define SLOTS 3                 /* CREDIT * 2 + 1 */
#endif
#define OWN SLOTS               /* no slot: a copy in OUT */
#ifdef REMOVED
byte old, old_slot;             /* what the viewer of a removed output holds: 1 + frame, and its slot */
bool removed;
#ifdef FORGETS
#define BY_OLD(s) false
#else
#define BY_OLD(s) (old != 0 && old_slot == s)
#endif
#else
#define BY_OLD(s) false
#endif
byte cell[N], head, tail, got;
bool lost[OUTS];                /* the reader's borrower lock is free: it is gone */
bool stuck[OUTS], kill[OUTS], stop[OUTS];
byte box[OUTS];                 /* OUT with room for CREDIT frames: 1 + frame not given back; 0 = none */
bool at_in[OUTS];               /* that one refers to IN's bytes */
byte slot[OUTS];                /* or to this slot */
byte pool[SLOTS];
byte held[N];                   /* outputs (bits) that have the frame in this cell */

active proctype camera() {
    do
    :: head < M && head - tail < N -> cell[head % N] = head + 1; head++
    :: head == M -> break
    :: timeout -> assert(stuck[0] || (BLOCKS > 1 && stuck[1])); break
    od
}

#define USED(s) ((box[1] != 0 && slot[1] == s && !lost[1]) || (box[2] != 0 && slot[2] == s && !lost[2]) || BY_OLD(s))
#define HAS(o) (held[tail % N] & (1 << o))
active proctype relay() {
    byte o, s;
    do
    :: got < head && (box[0] == 0 || lost[0]) && (BLOCKS < 2 || box[1] == 0 || lost[1]) ->
        o = 0;
#ifdef POOL
        /* a slot that no viewer has; there is always one */
        s = 0;
        do
        :: s < SLOTS && USED(s) -> s++
        :: else -> break
        od;
#ifdef REMOVED
#ifdef WAITS
        if :: s < SLOTS :: s == SLOTS -> if :: !USED(0) -> s = 0 :: !USED(1) -> s = 1 fi fi;
#endif
#ifdef TAKES
        if :: s == SLOTS -> s = 0 :: else fi;
#endif
        if :: s < SLOTS -> pool[s] = got + 1 :: else fi;
#else
        assert(s < SLOTS);
        pool[s] = got + 1;
#endif
#endif
        do
        :: o < OUTS ->
            atomic {
                if
                :: lost[o] -> skip
                :: !lost[o] && box[o] != 0 -> assert(o >= BLOCKS)   /* dropped */
                :: !lost[o] && box[o] == 0 ->
                    if
                    :: o < BLOCKS -> held[got % N] = held[got % N] | (1 << o); at_in[o] = true
#ifdef LEND
#ifdef SHARE
                    :: o >= BLOCKS && head - tail > N / 2 -> at_in[o] = false
                    :: o >= BLOCKS && head - tail <= N / 2 ->
#else
                    :: o >= BLOCKS ->
#endif
                        held[got % N] = held[got % N] | (1 << o); at_in[o] = true
#else
                    :: o >= BLOCKS -> at_in[o] = false; slot[o] = s
#ifdef REMOVED
                    :: o >= BLOCKS -> at_in[o] = false; slot[o] = OWN
#endif
#endif
                    fi;
                    box[o] = got + 1
                fi
            }
            o++
        :: else -> break
        od;
        o = 0;
        got++
    :: atomic { tail < got && HAS(0) && (box[0] != tail + 1 || lost[0]) -> held[tail % N] = held[tail % N] & 6 }
    :: atomic { tail < got && HAS(1) && (box[1] != tail + 1 || lost[1]) -> held[tail % N] = held[tail % N] & 5 }
    :: atomic { tail < got && HAS(2) && (box[2] != tail + 1 || lost[2]) -> held[tail % N] = held[tail % N] & 3 }
    :: atomic { tail < got && held[tail % N] == 0 -> tail++ }
    :: timeout -> break
    od
}

inline look() {
    if
    :: at_in[o] -> assert(cell[(box[o] - 1) % N] == box[o])
    :: !at_in[o] ->
#ifdef POOL
        if :: slot[o] == OWN :: else -> assert(pool[slot[o]] == box[o]) fi
#else
        skip
#endif
    fi
}

proctype viewer(byte o) {
    do
    :: atomic { box[o] != 0 -> look(); box[o] = 0 }
    :: kill[o] -> lost[o] = true; goto ended
    :: stop[o] -> stuck[o] = true; break
    :: timeout -> goto ended
    od;
    timeout;
    atomic { if :: box[o] != 0 -> look() :: else fi };
ended: skip
}
#ifdef REMOVED
/* Output 2 is removed while its viewer holds a frame of the pool, and another one is added; the viewer looks whenever it likes. */
active proctype removal() {
    do
    :: atomic { !removed && box[2] != 0 && slot[2] != OWN && !lost[2] -> old = box[2]; old_slot = slot[2]; box[2] = 0; removed = true; break }
    :: goto ended
    od;
    assert(pool[old_slot] == old);
    /* It gives it back, or holds it for good. */
    if
    :: atomic { assert(pool[old_slot] == old); old = 0 }
    :: skip; timeout; assert(pool[old_slot] == old)
    fi;
ended: skip
}
#endif
proctype fate(byte o) { if :: kill[o] = true :: stop[o] = true :: skip fi }
init { atomic { run viewer(0); run viewer(1); run viewer(2); run fate(1); run fate(2)
#ifndef REMOVED
    ; run fate(0)
#endif
} }
