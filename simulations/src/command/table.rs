//! A report as people read it.

use dfnode_simulations::Report;

pub(super) fn print(report: &Report) {
    for line in &report.log {
        println!("{line}");
    }
    println!("bound            {:>10.3} s", report.bound_s);
    println!(
        "p50 / p99 / max  {:>10.4} / {:.4} / {:.4} × bound",
        report.p50, report.p99, report.max
    );
    println!("source copies    {:>10.4}", report.copies);
    if !report.copies_into_zone.is_empty() {
        let into = report.copies_into_zone.iter();
        let into: Vec<String> = into.map(|copies| format!("{copies:.4}")).collect();
        println!("into each zone   {:>10}", into.join(" / "));
    }
    println!(
        "finished         {:>10} of {} survivors, {} failed",
        report.finished, report.survivors, report.failed
    );
    println!(
        "control per node {:>10} B, {:.3} % of the file",
        report.control_bytes_per_node, report.control_percent
    );
    println!("gossip per node  {:>10} B", report.gossip_bytes_per_node);
    println!(
        "wrong blocks     {:>10}, isolations {}, {} of {} liars isolated",
        report.wrong_blocks, report.isolations, report.liars_isolated, report.liars
    );
    for violation in &report.violations {
        println!("violation        {violation}");
    }
    println!(
        "events           {:>10} in {:.2} virtual s",
        report.events, report.virtual_s
    );
    println!("trace            {}", report.trace_hash);
}

pub(super) fn print_traffic(report: &Report) {
    for (kind, traffic) in &report.traffic {
        println!(
            "{kind:<12} {:>12} messages {:>14} B",
            traffic.messages, traffic.bytes
        );
    }
}
