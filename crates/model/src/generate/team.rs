//! Several threads on the small pieces of one forward pass.
//!
//! A pass of a few rows has dozens of phases that take microseconds each, too short to start a task for each of them. A
//! team is therefore formed once a pass. Its leader publishes a phase, and every member takes pieces of it until none is
//! left. The leader takes pieces as well and waits only for pieces that somebody has begun: a member that the pool never
//! gets round to starting, or that the operating system has put to sleep between two pieces, holds nobody up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Rounds of waiting in which a member does not give up its processor.
const SPIN: u32 = 2000;

/// Bits of the number of pieces, and of the next piece.
const BITS: u32 = 20;
const FIELD: u64 = (1 << BITS) - 1;

type Piece<'a> = &'a (dyn Fn(usize) + Sync + 'a);

/// The threads that share one forward pass.
pub(crate) struct Team {
    /// Threads that may take part, the leader included.
    threads: usize,
    /// Number of the phase, number of its pieces and the next piece; in one word, so that a piece is taken of the phase that
    /// was seen or not at all.
    claim: AtomicU64,
    /// Points to the leader's `Piece` of the phase.
    work: AtomicPtr<()>,
    done: AtomicUsize,
    ended: AtomicBool,
    panicked: AtomicBool,
}

impl Team {
    /// A team of one.
    pub(crate) fn alone() -> Team {
        Team::of(1)
    }

    fn of(threads: usize) -> Team {
        Team {
            threads,
            claim: AtomicU64::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        }
    }

    /// Runs `pass` with a team of as many threads as rayon's current pool has.
    pub(crate) fn gather<T>(pass: impl FnOnce(&Team) -> T) -> T {
        let team = Team::of(rayon::current_num_threads().max(1));
        if team.threads == 1 {
            return pass(&team);
        }
        // Members leave when the leader is through, also where it panics.
        struct End<'a>(&'a Team);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.ended.store(true, Ordering::Release);
            }
        }
        rayon::in_place_scope(|scope| {
            for _ in 1..team.threads {
                scope.spawn(|_| team.help());
            }
            let _end = End(&team);
            pass(&team)
        })
    }

    /// Threads that may take part.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `piece` once with each number below `pieces`, on whichever threads are free; returns when all are done.
    ///
    /// Only the leader may call this, and not from inside a piece.
    pub(crate) fn each(&self, pieces: usize, piece: impl Fn(usize) + Sync) {
        if self.threads == 1 || pieces <= 1 || pieces as u64 > FIELD {
            (0..pieces).for_each(piece);
            return;
        }
        let work: Piece<'_> = &piece;
        self.done.store(0, Ordering::Relaxed);
        self.work.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
        let phase = (self.claim.load(Ordering::Relaxed) >> (2 * BITS)) + 1;
        // Publishes both stores above to whoever sees the new phase.
        self.claim.store(phase << (2 * BITS) | (pieces as u64) << BITS, Ordering::Release);
        while self.take() {}
        let mut waited = 0;
        while self.done.load(Ordering::Acquire) < pieces {
            wait(&mut waited);
        }
        if self.panicked.load(Ordering::Relaxed) {
            panic!("a piece of a forward pass panicked");
        }
    }

    /// Takes and does one piece; false when there is none.
    fn take(&self) -> bool {
        let claim = self.claim.load(Ordering::Acquire);
        let (pieces, next) = (claim >> BITS & FIELD, claim & FIELD);
        if next >= pieces {
            return false;
        }
        let work = self.work.load(Ordering::Relaxed);
        // Succeeds only while the phase is the one that was read above: its leader cannot have gone on to another one, since
        // this piece was not taken, and so `work` is the phase's own.
        if self.claim.compare_exchange(claim, claim + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return true;
        }
        // SAFETY: the pointer was made from the leader's `Piece`, which lives until every piece that was taken is done.
        let piece = unsafe { *work.cast_const().cast::<Piece<'_>>() };
        // A panic must not unwind past pieces that other threads still work on: the leader raises it when all are done.
        if catch_unwind(AssertUnwindSafe(|| piece(next as usize))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    fn help(&self) {
        let mut waited = 0;
        while !self.ended.load(Ordering::Acquire) {
            if self.take() {
                waited = 0;
            } else {
                wait(&mut waited);
            }
        }
    }
}

fn wait(waited: &mut u32) {
    *waited += 1;
    if *waited < SPIN {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Team;

    #[test]
    fn every_piece_of_every_phase_is_done_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("a pool");
        let counts: Vec<AtomicUsize> = (0..97).map(|_| AtomicUsize::new(0)).collect();
        pool.install(|| {
            Team::gather(|team| {
                let mut want = 0;
                for phase in 0..2000 {
                    let pieces = phase % counts.len();
                    team.each(pieces, |piece| {
                        counts[piece].fetch_add(1, Ordering::Relaxed);
                    });
                    // A phase is over when `each` returns.
                    want += pieces;
                    assert_eq!(counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>(), want);
                }
            });
        });
        for (piece, count) in counts.iter().enumerate() {
            let want = (0..2000).filter(|phase| phase % 97 > piece).count();
            assert_eq!(count.load(Ordering::Relaxed), want);
        }
    }

    #[test]
    fn passes_inside_each_others_pool_end() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let total = AtomicUsize::new(0);
        pool.install(|| {
            rayon::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|_| {
                        Team::gather(|team| {
                            for _ in 0..50 {
                                team.each(16, |_| {
                                    total.fetch_add(1, Ordering::Relaxed);
                                });
                            }
                        });
                    });
                }
            });
        });
        assert_eq!(total.into_inner(), 8 * 50 * 16);
    }
}
