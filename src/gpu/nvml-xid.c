/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers under which NVIDIA's driver reports errors (XIDs), from NVIDIA's XID catalogue: what
 * they mean, and whether the card must be reset or replaced before it is used again. */
#include "gpu/nvml.h"

static const struct {
    unsigned xid;
    bool fatal;
    const char *text;
} meanings[] = {
    {8, false, "a program's work did not end in time and was stopped"},
    {13, false, "a program made the graphics engine fail (its own mistake, as a rule)"},
    {31, false, "a program used memory that it does not have (a page fault of its own)"},
    {32, false, "a program's command stream is damaged"},
    {38, false, "the driver's firmware failed for a program"},
    {43, false, "a program was stopped after its own error"},
    {44, false, "a fault during a context switch"},
    {45, false, "a program's work was cleaned away, as it was ended or has failed before"},
    {46, true, "the GPU stopped working and must be reset"},
    {48, true, "memory has an error of two bits, which ECC cannot correct"},
    {54, true, "a power cable of the card is not plugged in"},
    {61, true, "the GPU's internal controller met a breakpoint or warning; reset the card"},
    {62, true, "the GPU's internal controller has halted; reset the card"},
    {63, false, "a row of memory is remapped (or a page retired) at the next reset of the card"},
    {64, true, "a row of memory cannot be remapped (or a page retired); the card needs service"},
    {68, false, "the video decoder failed for a program"},
    {69, false, "a program made the graphics engine's class fail (its own mistake, as a rule)"},
    {74, true, "a link to another GPU (NVLink) failed; check the link and reset the card"},
    {79, true, "the GPU has fallen off the bus: it no longer answers"},
    {92, false, "errors of one bit are frequent; ECC corrects them, but watch the card"},
    {94, false, "an uncorrectable memory error was contained: only the program that met it ended"},
    {95, true, "an uncorrectable memory error was not contained: all that runs on the card is hit"},
    {109, true, "a context switch did not end in time; reset the card"},
    {110, true, "a security fault; reset the card"},
    {119, true, "the GPU's system processor (GSP) does not answer; reset the card"},
    {120, true, "the GPU's system processor (GSP) failed; reset the card"},
    {121, false, "the link between processor and GPU corrected errors"},
    {122, true, "the GPU's flash memory cannot be read or written"},
    {123, true, "the GPU's flash memory cannot be read or written"},
    {136, true, "the links to other GPUs (NVLink) cannot be trained; reset the card"},
    {137, false, "a program used a link to another GPU (NVLink) without the right to"},
    {140, true, "an uncorrected memory error, from which the driver did not recover"},
    {143, true, "the GPU cannot be started"},
    {154, false, "the driver has changed what it wants to be done to the card; see the host's log"},
    {156, false, "a part of the card was retired"},
    {157, true, "a part of the card cannot be retired; the card needs service"},
    {158, true, "the GPU did not answer in time and cannot be used; reset the card"},
};

const char *at_nvml_xid_text(unsigned xid, bool *ret_fatal)
{
    *ret_fatal = xid == 0;
    if (xid == 0)
        return "the card is lost: it no longer answers on the bus";
    for (unsigned i = 0; i < G_N_ELEMENTS(meanings); i++) {
        if (meanings[i].xid == xid) {
            *ret_fatal = meanings[i].fatal;
            return meanings[i].text;
        }
    }
    return "an error that is not known here; see NVIDIA's XID catalogue";
}

unsigned at_nvml_xid_nth(unsigned n)
{
    return n < G_N_ELEMENTS(meanings) ? meanings[n].xid : 0;
}
