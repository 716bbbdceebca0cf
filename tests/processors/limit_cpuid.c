/* Hides processor features from a program, so that libraries choose the kernels of an older processor.

   Loaded with LD_PRELOAD. CPUID is made to fault (arch_prctl(2), ARCH_SET_CPUID), and the handler answers it without
   AVX-512, VNNI and AMX, or without AMX alone if KPRUNE_HIDE=amx. Needs an Intel processor of 2012 or later, or an AMD
   one of Zen 3 or later whose system offers the fault; otherwise the program ends with 77 before it has begun. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int only_amx;

static int allow_cpuid(unsigned long allowed) { return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static uint32_t bits(const int *numbers) {
    uint32_t found = 0;
    for (; *numbers >= 0; numbers++)
        found |= 1u << *numbers;
    return found;
}

/* Bit numbers: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID, leaf 7. */
static const int AVX512_EBX[] = {16, 17, 21, 26, 27, 28, 30, 31, -1};
static const int AVX512_ECX[] = {1, 6, 11, 12, 14, -1};
static const int AVX512_EDX[] = {2, 3, 8, 23, -1};
static const int AMX_EDX[] = {22, 24, 25, -1};
static const int VNNI_EAX_1[] = {4, 5, 21, 23, -1};
static const int VNNI_EDX_1[] = {4, 5, 10, -1};

static void answer(int signal_number, siginfo_t *information, void *context) {
    (void)information;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) { /* a real fault */
        signal(signal_number, SIG_DFL);
        return;
    }
    uint32_t eax = (uint32_t)registers[REG_RAX], ecx = (uint32_t)registers[REG_RCX], ebx, edx;
    const uint32_t leaf = eax, part = ecx;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    allow_cpuid(0);
    if (leaf == 7 && part == 0) {
        edx &= ~bits(AMX_EDX);
        if (!only_amx) {
            ebx &= ~bits(AVX512_EBX);
            ecx &= ~bits(AVX512_ECX);
            edx &= ~bits(AVX512_EDX);
        }
    }
    if (leaf == 7 && part == 1 && !only_amx) {
        eax &= ~bits(VNNI_EAX_1);
        edx &= ~bits(VNNI_EDX_1);
    }
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
    const char *hidden = getenv("KPRUNE_HIDE");
    only_amx = hidden != NULL && strcmp(hidden, "amx") == 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (sigaction(SIGSEGV, &action, NULL) != 0 || allow_cpuid(0) != 0)
        _exit(77);
}
