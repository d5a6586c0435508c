// SPDX-License-Identifier: GPL-2.0

//! A card that fails, and its way back. See `docs/uapi.md`, section 8.
//!
//! A queue's error costs the queue, a runaway its context; both are the firmware's business. This
//! is about the rest: the card is silenced, everybody gets his error, what is known is kept for
//! people, and then the card is reset by the mildest means that helps: by its own register, as a
//! function, with its bus. Contexts from before are over; new ones work.

use kernel::{prelude::*, sync::atomic::Full, sync::Arc};

use crate::{
    abi::{event::EventKind, regs, status::Status},
    boot::boot,
    card::{Card, LOST, RUNNING, STARTING},
    driver::{self, MluDriver},
    event::set_ring,
    ext::{
        pci::clear_master,
        pci_driver::{
            is_present, set_master, try_reset_bus, try_reset_function, Channel, Lifecycle, Verdict,
        },
        periodic::{new_periodic, Next, Periodic, Tick},
        trace, uevent,
        wait::now,
    },
    nodes,
    rpc::RpcChannel,
};

/// Time until a card that failed is reset, ms.
const DELAY_MS: u32 = 10;
/// Restarts of a card in [`WINDOW`] after which it is left alone: it would only fail again.
const MOST_RESTARTS: u32 = 4;
/// ns.
const WINDOW: i64 = 60_000_000_000;

/// What the driver remembers of restarts.
#[derive(Default)]
pub(crate) struct History {
    /// When the current window began, and restarts in it.
    window: (i64, u32),
}

impl History {
    /// Whether another restart is worth it.
    fn allow(&mut self) -> bool {
        let time = now();
        if time - self.window.0 > WINDOW {
            self.window = (time, 0);
        }
        self.window.1 += 1;
        self.window.1 <= MOST_RESTARTS
    }
}

/// Resets a card that has failed.
pub(crate) struct Recovery(Arc<Card>);

impl Recovery {
    /// Makes it; it runs, once, when it is started.
    pub(crate) fn new(card: Arc<Card>) -> Result<Pin<KBox<Periodic<Self>>>> {
        KBox::pin_init(
            new_periodic!("mlu-recovery", DELAY_MS, Self(card)),
            GFP_KERNEL,
        )
    }
}

impl Tick for Recovery {
    fn tick(&self) -> Next {
        self.0.recover();
        Next::Never
    }
}

impl Card {
    /// Declares the card lost, and has it reset: callers and waiters get their errors, and the card
    /// is made to leave host memory alone.
    pub(crate) fn fail(&self, reason: kernel::fmt::Arguments<'_>) {
        if self.lose(reason) {
            if let Some(recovery) = self.recovery.lock().as_ref() {
                recovery.start();
            }
        }
    }

    /// Declares the card lost, whoever brings it back. `false` if it is already.
    fn lose(&self, reason: kernel::fmt::Arguments<'_>) -> bool {
        let running = self.state.cmpxchg(RUNNING, LOST, Full);
        if running.is_err() && self.state.cmpxchg(STARTING, LOST, Full).is_err() {
            return false;
        }
        dev_err!(
            self.pdev(),
            "card lost: {reason}; all its users get errors\n"
        );
        trace::fault(self.number(), 0, 0, 0);
        // Before the reset, during which its memory does not answer.
        self.close_apertures();
        self.silence();
        self.keep_dump(reason);
        self.tell_of(EventKind::CardLost, 0, 0);
        self.wake_everybody();
        self.name_guilty(c"none");
        true
    }

    /// Tells user space of a fault in the words of DRM's wedged events: what helps, and whose
    /// command ran last.
    pub(crate) fn name_guilty(&self, method: &CStr) {
        let suspect = self.suspect();
        let Ok(mut event) =
            uevent::Event::new(fmt!("WEDGED={}", method.to_str().unwrap_or("none")))
        else {
            return;
        };
        if let Some((pid, comm)) = &suspect {
            // Without memory it says less.
            let _ = event.add(fmt!("PID={pid}"));
            let _ = event.add(fmt!("TASK={}", crate::attributes::text(comm)));
        }
        event.send(self.device());
    }

    /// Makes the card leave host memory alone, which is about to be freed: by a reset, or else by
    /// taking away its right to access memory. (A card whose registers do not answer may still be
    /// there, with its memory decoding off.)
    pub(crate) fn silence(&self) {
        let present = self.regs().present();
        if present && self.regs().reset() {
            return;
        }
        if present {
            dev_warn!(
                self.pdev(),
                "the card does not reset; its access to memory is cut off\n"
            );
        }
        self.with_bound(|_| clear_master(self.pdev()));
    }

    /// Resets a lost card and starts it.
    fn recover(&self) {
        if !self.is_lost() {
            return;
        }
        if !self.history.lock().allow() {
            dev_err!(
                self.pdev(),
                "the card failed {MOST_RESTARTS} times within {} s and is left alone; bind the driver again to reset it\n",
                WINDOW / 1_000_000_000
            );
            return self.name_guilty(c"rebind");
        }
        // From the mildest to the hardest. The second and third call the handlers of resets below,
        // which then leave the rest to this.
        type Means = (&'static str, fn(&Card) -> bool);
        let means: [Means; 3] = [
            ("its register", |card| card.regs().present()),
            ("a function reset", |card| {
                is_present(card.pdev()) && try_reset_function(card.pdev()).is_ok()
            }),
            ("a bus reset", |card| {
                is_present(card.pdev()) && try_reset_bus(card.pdev()).is_ok()
            }),
        ];
        for (name, reset) in means {
            if self.is_lost() && reset(self) && self.restart(name).is_ok() {
                return;
            }
        }
        if self.is_lost() {
            dev_err!(
                self.pdev(),
                "no reset brings the card back; bind the driver again once it answers\n"
            );
            self.name_guilty(c"rebind");
        }
    }

    /// Starts a lost card whose function has been reset, by `means`. Contexts from before end.
    pub(crate) fn restart(&self, means: &str) -> Result {
        let _life = self.life.lock();
        if self.is_alive() {
            return Ok(());
        }
        if !self.is_lost() || !self.regs().present() {
            return Err(ENODEV);
        }
        let began = now();
        self.end_epoch();
        // The card could still use what it was given, and needs its right to access memory.
        if !self.regs().reset() {
            return Err(EIO);
        }
        if self.state.cmpxchg(LOST, STARTING, Full).is_err() {
            return Err(ENODEV);
        }
        let started = self.boot_again();
        if let Err(e) = started {
            let _ = self.state.cmpxchg(STARTING, LOST, Full);
            self.silence();
            dev_err!(
                self.pdev(),
                "the card does not start after {means}: {e:?}\n"
            );
            return Err(e);
        }
        if self.state.cmpxchg(STARTING, RUNNING, Full).is_err() {
            return Err(ENODEV);
        }
        dev_info!(
            self.pdev(),
            "card works again after {means}, {} ms\n",
            (now() - began) / 1_000_000
        );
        self.tell_of(EventKind::CardBack, 0, 0);
        Ok(())
    }

    /// Ends what was made before the card was lost. Nothing of it is heard of again.
    fn end_epoch(&self) {
        self.next_epoch();
        let channel = self.rpc.lock().take();
        self.end_contexts(Status::DeviceReset);
        drop(channel);
    }

    fn boot_again(&self) -> Result {
        let region = self
            .with_bound_function(|pdev| {
                set_master(pdev);
                boot(pdev, self.regs())
            })
            .ok_or(ENODEV)??;
        *self.rpc.lock() = Some(RpcChannel::new(region, self.epoch())?);
        let info = driver::ask(self.pdev(), self)?;
        if (info.serial, info.chip) != (self.info().serial, self.info().chip) {
            dev_err!(
                self.pdev(),
                "it is another card now; bind the driver again\n"
            );
            return Err(ENODEV);
        }
        self.start_rings()?;
        // Not under its lock, since the firmware is called.
        let mut page = self.telemetry_page.lock().take().ok_or(ENODEV)?;
        let started = page.start(self);
        *self.telemetry_page.lock() = Some(page);
        started
    }

    /// Tells the firmware where the vectors' events go, from their beginning.
    pub(crate) fn start_rings(&self) -> Result {
        let mut rings = KVec::new();
        rings.extend_from_slice(&self.rings.lock(), GFP_KERNEL)?;
        for (vector, ring) in (0..).zip(&rings) {
            set_ring(self, vector, ring.restart()?)?;
        }
        self.set_has_events(true);
        Ok(())
    }
}

/// What the PCI core asks of the driver, with the function's lock held. A card that is not in the
/// table is in nobody's hands.
impl Lifecycle for MluDriver {
    fn error_detected(pdev: &kernel::pci::Device, channel: Channel) -> Verdict {
        let Some(card) = nodes::find(pdev) else {
            return Verdict::Disconnect;
        };
        match channel {
            Channel::Normal if card.check_alive() => Verdict::CanRecover,
            Channel::Normal | Channel::Frozen => {
                card.lose(fmt!("PCI Express reports an error that was not corrected"));
                Verdict::NeedReset
            }
            Channel::Dead => {
                card.lose(fmt!("PCI Express gives the function up"));
                Verdict::Disconnect
            }
        }
    }

    fn slot_reset(pdev: &kernel::pci::Device) -> Verdict {
        match nodes::find(pdev) {
            Some(card) if card.regs().read(regs::ID) == regs::ID_VALUE => Verdict::Recovered,
            _ => Verdict::Disconnect,
        }
    }

    fn error_recovered(pdev: &kernel::pci::Device) {
        if let Some(card) = nodes::find(pdev) {
            // It says what is wrong itself.
            let _ = card.restart("an error of PCI Express");
        }
    }

    fn reset_prepare(pdev: &kernel::pci::Device) {
        if let Some(card) = nodes::find(pdev) {
            // Nothing to do if it is lost, as when `recover` resets it.
            card.lose(fmt!("its function is being reset"));
        }
    }

    fn reset_done(pdev: &kernel::pci::Device) {
        if let Some(card) = nodes::find(pdev) {
            let _ = card.restart("a reset of its function");
        }
    }

    fn suspend(pdev: &kernel::pci::Device) -> Result {
        if let Some(card) = nodes::find(pdev) {
            card.lose(fmt!("the machine goes to sleep"));
        }
        Ok(())
    }

    fn resume(pdev: &kernel::pci::Device) -> Result {
        match nodes::find(pdev) {
            Some(card) => card.restart("a sleep of the machine"),
            None => Ok(()),
        }
    }

    fn shutdown(pdev: &kernel::pci::Device) {
        if let Some(card) = nodes::find(pdev) {
            card.lose(fmt!("the machine shuts down"));
            clear_master(pdev);
        }
    }
}
