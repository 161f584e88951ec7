//! The time below which no protocol can come.

/// What stands between a file and some hosts with equal links; rates in bytes of payload a second.
pub(super) struct Ways {
    /// F, in bytes.
    pub(super) file: f64,
    /// us: what the source sends.
    pub(super) source: f64,
    /// u and d: what each host sends, and receives.
    pub(super) host: f64,
    /// t: what goes between two zones; infinite where all of these hosts are in the source's.
    pub(super) trunk: f64,
}

impl Ways {
    /// max{F/us, F/d, F/t}, in seconds: no crowd can have a slowest host that takes less, each counted from its own start.
    ///
    /// Whoever is the first to start finds the file at the source alone, and the first of a zone finds it beyond the trunk.
    pub(super) fn own_secs(&self) -> f64 {
        (self.file / self.source)
            .max(self.file / self.host)
            .max(self.file / self.trunk)
    }

    /// max{F/us, F/d, F/t, N·F/(us + N·u)}, in seconds, for so many hosts that start at the same moment.
    pub(super) fn crowd_secs(&self, hosts: f64) -> f64 {
        let together = hosts * self.file / (self.source + hosts * self.host);
        self.own_secs().max(together)
    }
}
