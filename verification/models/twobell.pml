/* B waits in IN for a frame, and for OUT's tail meanwhile; another thread of B has OUT's writer. May both use OUT's writer bell?
 *   (nothing)    one bell, two sleepers         -DOWN_BELL   what is lent has a bell of its own
 * A sleeper without end is an invalid end (the slice of 20 ms is left out on purpose). Stores are seen at once.
 */
byte bell[2], tail;
bool waits[2];                  /* in the futex: 0 = IN's reader, 1 = OUT's writer */
#ifdef OWN_BELL
#define LENT 1
#else
#define LENT 0
#endif
active proctype viewer() {      /* publisher of OUT's tail: two frames */
    byte i;
    do
    :: i < 2 -> i++; tail++;
        if :: bell[0] == 1 -> atomic { bell[0] = 0; waits[1] = false; if :: LENT == 0 -> waits[0] = false :: else fi } :: else fi;
        if :: LENT && bell[1] == 1 -> atomic { bell[1] = 0; waits[0] = false } :: else fi
    :: else -> break
    od
}
active proctype reader_of_in() {        /* wants to see every move of the tail */
    byte seen;
    do
    :: seen < 2 ->
        bell[LENT] = 1;
        if
        :: tail > seen -> seen = tail
        :: else ->
            if
            :: atomic { bell[LENT] == 1 -> waits[0] = true }; !waits[0]
            :: bell[LENT] != 1
            fi
        fi
    :: else -> break
    od
}
active proctype writer_of_out() {       /* waits for space once in a while, and is awake then */
    byte n;
    do
    :: n < 2 ->
        n++;
        bell[0] = 1;
        if
        :: tail >= n
        :: else -> if :: atomic { bell[0] == 1 -> waits[1] = true }; !waits[1] :: bell[0] != 1 fi
        fi;
        bell[0] = 0             /* bell::set(): awake */
    :: else -> break
    od
}
