// SPDX-License-Identifier: GPL-2.0

//! Looks after the card while somebody uses it: a card that is gone is found within a quarter of a
//! second, and an interrupt that got lost delays a waiter by little more than that: a value that
//! was reached without an event is looked at once more after a fifth of the interval, and if still
//! no event has come by then, its waiters are woken and counted (`rescued_waits` of the counters).

use kernel::{prelude::*, sync::Arc};

use crate::{
    card::Card,
    ext::periodic::{new_periodic, Next, Periodic, Tick},
};

/// Time between two looks, ms.
const INTERVAL_MS: u32 = 250;

/// The periodic look at a card.
pub(crate) struct Watch(Arc<Card>);

impl Watch {
    /// Makes it; it begins when it is started.
    pub(crate) fn new(card: Arc<Card>) -> Result<Pin<KBox<Periodic<Self>>>> {
        KBox::pin_init(
            new_periodic!("mlu-watch", INTERVAL_MS, Self(card)),
            GFP_KERNEL,
        )
    }
}

impl Tick for Watch {
    fn tick(&self) -> Next {
        self.0.check_alive();
        let again = self.0.rescue_waiters();
        if !self.0.is_alive() || !self.0.is_used() {
            Next::Never
        } else if again {
            Next::Soon
        } else {
            Next::Later
        }
    }
}
