#include "cuda_shim.h"

#include <setjmp.h>
#include <ucontext.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define SHIM_PLAIN_SWITCH 1  // AddressSanitizer follows swapcontext, not longjmp to another stack
#else
#define SHIM_PLAIN_SWITCH 0
#endif

thread_local dim3 threadIdx, blockIdx, gridDim;

namespace shim {

Schedule schedule = Schedule::kForward;
int submitted = 0;

namespace {

constexpr unsigned kLanes = 32;
constexpr size_t kStackBytes = 64 * 1024;

// A meeting point: whoever comes waits until all who are expected have come.
struct Meeting {
    unsigned expected = 0, arrived = 0, round = 0;

    bool arrive() {
        if (++arrived < expected) return false;
        arrived = 0, ++round;
        return true;
    }
    void leave() {
        if (--expected > 0 && arrived == expected) arrived = 0, ++round;
    }
};

struct Fibre {
    ucontext_t context;
    jmp_buf state;
    std::unique_ptr<char[]> stack;
    bool started = false, done = false;
    const Meeting* awaited = nullptr;
    unsigned round = 0, exchanges = 0;
};

struct Warp {
    Meeting meeting;
    uint64_t slots[2][kLanes];
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    Meeting barrier;
    ucontext_t main;
    jmp_buf main_state;
    unsigned current = 0;
    const std::function<void()>* thread = nullptr;
};

thread_local Block* block = nullptr;
thread_local std::function<void()> on_ticket;

Fibre& self() { return block->fibres[block->current]; }

void to_main() {
    Fibre& fibre = self();
#if SHIM_PLAIN_SWITCH
    swapcontext(&fibre.context, &block->main);
#else
    if (_setjmp(fibre.state) == 0) _longjmp(block->main_state, 1);
#endif
}

void wait_for(Meeting& meeting) {
    Fibre& fibre = self();
    fibre.awaited = &meeting, fibre.round = meeting.round;
    if (meeting.arrive()) return;
    to_main();
}

void begin() {
    (*block->thread)();
    self().done = true;
    block->warps[block->current / kLanes].meeting.leave();
    block->barrier.leave();
    to_main();
}

void start(Fibre& fibre) {
    fibre.started = true;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStackBytes;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, begin, 0);
}

void resume(unsigned index) {
    Fibre& fibre = block->fibres[index];
    block->current = index;
    threadIdx = dim3(index, 0, 0);
    const bool fresh = !fibre.started;
    if (fresh) start(fibre);
#if SHIM_PLAIN_SWITCH
    swapcontext(&block->main, &fibre.context);
#else
    if (_setjmp(block->main_state) != 0) return;
    if (fresh) {
        setcontext(&fibre.context);
    } else {
        _longjmp(fibre.state, 1);
    }
#endif
}

bool ready(const Fibre& fibre) {
    return !fibre.done && (fibre.awaited == nullptr || fibre.awaited->round != fibre.round);
}

// Every thread that can go on does so, once; false when none could.
bool pass(unsigned threads) {
    bool moved = false;
    for (unsigned i = 0; i < threads; ++i) {
        const unsigned index = schedule == Schedule::kReversed ? threads - 1 - i : i;
        if (!ready(block->fibres[index])) continue;
        resume(index);
        moved = true;
    }
    return moved;
}

void reset(unsigned threads) {
    for (Fibre& fibre : block->fibres) fibre.started = fibre.done = false, fibre.awaited = nullptr, fibre.exchanges = 0;
    for (Warp& warp : block->warps) warp.meeting = {kLanes, 0, 0};
    block->barrier = {threads, 0, 0};
}

// The fibres of this OS thread, whose stacks serve one block after another.
Block& fibres_of(unsigned threads) {
    thread_local Block made;
    if (made.fibres.size() != threads) {
        made.fibres = std::vector<Fibre>(threads);
        made.warps = std::vector<Warp>((threads + kLanes - 1) / kLanes);
        for (Fibre& fibre : made.fibres) fibre.stack.reset(new char[kStackBytes]);
    }
    return made;
}

void run_block(dim3 index, dim3 grid, unsigned threads, const std::function<void()>& thread) {
    block = &fibres_of(threads);
    block->thread = &thread;
    blockIdx = index, gridDim = grid;
    reset(threads);
    while (pass(threads)) {}
    for (const Fibre& fibre : block->fibres) {
        if (fibre.done) continue;
        std::fprintf(stderr, "cuda_shim: threads of block (%u, %u) wait for each other\n", index.x, index.y);
        std::abort();
    }
}

// Blocks on OS threads of their own, of which one runs at a time.
class Relay {
  public:
    void give(int runner) {
        std::unique_lock<std::mutex> lock(mutex_);
        turn_ = runner;
        changed_.notify_all();
        changed_.wait(lock, [&] { return turn_ == kNobody; });
    }
    void take(int runner) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return turn_ == runner; });
    }
    void put() {
        const std::lock_guard<std::mutex> lock(mutex_);
        turn_ = kNobody;
        changed_.notify_all();
    }

  private:
    static constexpr int kNobody = -1;
    std::mutex mutex_;
    std::condition_variable changed_;
    int turn_ = kNobody;
};

void run_held(dim3 grid, unsigned image, unsigned threads, const std::function<void()>& thread) {
    Relay relay;
    std::vector<char> finished(grid.x, 0);
    std::vector<std::thread> runners;
    for (unsigned x = 0; x < grid.x; ++x) {
        runners.emplace_back([&, x] {
            const int me = static_cast<int>(x);
            relay.take(me);
            on_ticket = [&relay, me] { relay.put(), relay.take(me); };
            run_block(dim3(x, image), grid, threads, thread);
            finished[x] = 1;
            relay.put();
        });
    }
    for (unsigned x = 0; x < grid.x; ++x) relay.give(static_cast<int>(x));
    for (unsigned x = grid.x; x-- > 0;) {
        if (!finished[x]) relay.give(static_cast<int>(x));
    }
    for (std::thread& runner : runners) runner.join();
}

}  // namespace

void run_grid(dim3 grid, unsigned threads, const std::function<void()>& thread) {
    for (unsigned y = 0; y < grid.y; ++y) {
        if (schedule == Schedule::kHeld) {
            run_held(grid, y, threads, thread);
            continue;
        }
        for (unsigned x = 0; x < grid.x; ++x) run_block(dim3(x, y), grid, threads, thread);
    }
}

uint64_t exchange(uint64_t mine, unsigned lane_mask) {
    Warp& warp = block->warps[block->current / kLanes];
    const unsigned lane = block->current % kLanes;
    // Two sets of slots: a lane may be one exchange ahead of those that still read, never two.
    uint64_t* slots = warp.slots[self().exchanges++ % 2];
    slots[lane] = mine;
    wait_for(warp.meeting);
    return slots[lane ^ lane_mask];
}

void drew_ticket() {
    if (on_ticket) on_ticket();
}

}  // namespace shim

void __syncthreads() { shim::wait_for(shim::block->barrier); }
