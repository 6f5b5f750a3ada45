/* PLC_LineModbus as MATIEC compiled it. A line of numbers in: milliseconds, PartInPlace, ResetButton, the 32 status
   words. A line out after each cycle: GateOpen, Done, Pass, Reason, Passed, Rejected, the 16 control words. */

#include <stdio.h>

#include "POUS.h"

TIME __CURRENT_TIME;
BOOL __DEBUG;

#include "POUS.c"

static int read_inputs(PLC_LINEMODBUS *plc)
{
    long long ms;
    unsigned part, reset;
    if (scanf("%lld %u %u", &ms, &part, &reset) != 3)
        return 0;
    __CURRENT_TIME.tv_sec = ms / 1000;
    __CURRENT_TIME.tv_nsec = ms % 1000 * 1000000;
    plc->PARTINPLACE.value = part;
    plc->RESETBUTTON.value = reset;
    for (int i = 0; i < 32; i++) {
        unsigned word;
        if (scanf("%u", &word) != 1)
            return 0;
        plc->CADASTATUS.value.table[i] = word;
    }
    return 1;
}

int main(void)
{
    static PLC_LINEMODBUS plc;
    PLC_LINEMODBUS_init__(&plc, 0);
    while (read_inputs(&plc)) {
        PLC_LINEMODBUS_body__(&plc);
        printf("%u %u %u %u %u %u", plc.GATEOPEN.value, plc.STATION.DONE.value, plc.STATION.PASS.value,
               plc.STATION.REASON.value, plc.PASSED.value, plc.REJECTED.value);
        for (int i = 0; i < 16; i++)
            printf(" %u", plc.CADACONTROL.value.table[i]);
        printf("\n");
    }
    return 0;
}
