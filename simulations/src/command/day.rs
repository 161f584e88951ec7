//! `day`: a cluster's whole day, and whether everything returns to its start.

use std::time::Duration;

use dfnode_simulations::{Day, DayReport, Rest, live};

use super::progress::Line;

/// Tasks start, nodes come and go, caches forget; after a long quiet all must be as it was.
#[derive(clap::Args)]
pub(crate) struct ADay {
    /// Nodes, about, at any time.
    #[arg(long, default_value_t = 300)]
    nodes: usize,
    /// Hours in which tasks start and nodes come and go.
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// Different tasks.
    #[arg(long, default_value_t = 1000)]
    tasks: u64,
    /// Equal seeds give equal runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a node stays, on average.
    #[arg(long, default_value = "6h", value_parser = humantime::parse_duration)]
    stay: Duration,
    /// How long a cache keeps what nobody uses.
    #[arg(long, default_value = "2h", value_parser = humantime::parse_duration)]
    cache_ttl: Duration,
    /// How long gossip remembers the dead and what was withdrawn; the quiet lasts longer than that.
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    remember: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl ADay {
    pub(crate) fn run(self, heap: fn() -> usize) -> anyhow::Result<()> {
        let day = Day {
            nodes: self.nodes,
            length: Duration::try_from_secs_f64(self.hours * 3600.0)?,
            tasks: self.tasks,
            seed: self.seed,
            stay: self.stay,
            cache_ttl: self.cache_ttl,
            remember: self.remember,
            ..Day::default()
        };
        let report = {
            let mut line = Line::of(String::new());
            live(&day, heap, &mut |progress| line.show(progress))
        };
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report)?;
        }
        anyhow::ensure!(
            report.violations.is_empty(),
            "seed {}: {:#?}\nreplay: {}",
            self.seed,
            report.violations,
            self.replay()
        );
        Ok(())
    }

    fn replay(&self) -> String {
        format!(
            "cargo run --release -p dfnode-simulations -- day --nodes {} --hours {} --tasks {} --seed {} --stay {} \
             --cache-ttl {} --remember {}",
            self.nodes,
            self.hours,
            self.tasks,
            self.seed,
            humantime::format_duration(self.stay),
            humantime::format_duration(self.cache_ttl),
            humantime::format_duration(self.remember)
        )
    }
}

/// The figures of a quiet moment, by name.
fn figures(rest: &Rest) -> anyhow::Result<Vec<(String, u64)>> {
    let object = serde_json::to_value(rest)?;
    let fields = object.as_object().into_iter().flatten();
    Ok(fields
        .map(|(name, value)| (name.clone(), value.as_u64().unwrap_or(0)))
        .collect())
}

fn print(report: &DayReport) -> anyhow::Result<()> {
    println!(
        "{:>14} {:>12} {:>12} {:>12}",
        "all nodes", "start", "evening", "end"
    );
    let columns = [&report.start, &report.evening, &report.end].map(figures);
    let [start, evening, end] = columns;
    for ((name, start), ((_, evening), (_, end))) in
        start?.into_iter().zip(evening?.into_iter().zip(end?))
    {
        println!("{name:>14} {start:>12} {evening:>12} {end:>12}");
    }
    println!(
        "{} wishes: {} came true (the slowest in {:.2} s), {} failed, {} were given up, {} died with their node",
        report.wishes, report.got, report.slowest_s, report.failed, report.cancelled, report.died
    );
    println!(
        "{} crashes, {} farewells, {} returns, {} newcomers, {} evictions",
        report.crashes, report.farewells, report.returns, report.newcomers, report.evictions
    );
    println!(
        "{:.3} copies a round, {:.3} at most; {} outputs at once, {} news waiting and {} slots at most in one node",
        report.copies,
        report.most_copies,
        report.longest_burst,
        report.most_waiting,
        report.most_slots
    );
    println!("{} events, trace {}", report.events, report.trace_hash);
    Ok(())
}
