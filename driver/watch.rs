// SPDX-License-Identifier: GPL-2.0

//! Looks after the card while somebody uses it: a card that is gone is found within a quarter of a second, and an interrupt that got lost
//! delays a waiter by no more than that.

use kernel::{prelude::*, sync::Arc};

use crate::{
    card::Card,
    ext::periodic::{new_periodic, Periodic, Tick},
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
    fn tick(&self) -> bool {
        self.0.check_alive();
        self.0.signal_overdue();
        self.0.is_alive() && self.0.is_used()
    }
}
