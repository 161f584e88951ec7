//! Processes that end with their owner, and what they cost.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How often a running process is asked for its memory. Short-lived peaks are kept by the kernel.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// The unit of processor time in /proc on every Linux we know (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system, of all its threads.
    pub(crate) cpu: Duration,
    /// The most memory it ever had resident.
    pub(crate) peak_rss_bytes: u64,
    /// The memory it has resident now.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// Reads what /proc says. A process that has exited but was not waited for still has its time.
    fn of(pid: Pid) -> Self {
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        Self {
            cpu: cpu_time(&stat),
            peak_rss_bytes: memory(&status, "VmHWM:"),
            rss_bytes: memory(&status, "VmRSS:"),
        }
    }
}

/// The sum of utime and stime: the 12th and 13th field after the name, which ends with the last `)`.
fn cpu_time(stat: &str) -> Duration {
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u32 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|f| f.parse::<u32>().ok())
        .sum();
    TICK * ticks
}

fn memory(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A running process, killed on drop.
pub(crate) struct Process {
    child: Child,
    started: Instant,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to the file `log`, after what is there already.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self {
            child,
            started,
            log: log.to_owned(),
        }
    }

    /// The pid of the program itself.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.pid())
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        // A process that is gone already has got what the signal wanted.
        let _ = kill_process(self.pid(), signal);
    }

    /// Kills it as a power cut would: no handler runs.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that is expected to end.
pub(crate) struct Job {
    command: Command,
    /// How long after the first job this one starts.
    delay: Duration,
    deadline: Duration,
}

impl Job {
    /// `command`, started at once, killed after two minutes.
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            delay: Duration::ZERO,
            deadline: Duration::from_mins(2),
        }
    }

    /// Starts it `delay` later than the others.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Kills it when it takes longer than `deadline`.
    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Finished {
        thread::sleep(self.delay);
        let started = Instant::now();
        // Both streams go to files, so that neither can block the other.
        let (out, err) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        let (ended, usage) = watch(Pid::from_child(&child), started + self.deadline);
        let status = child.wait().unwrap();
        Finished {
            code: status.code(),
            signal: status.signal(),
            started,
            ended,
            usage,
            stdout: read_lossy(out.path()),
            stderr: read_lossy(err.path()),
        }
    }
}

/// How a [`Job`] went.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// The exit code, unless a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// When it was started.
    pub(crate) started: Instant,
    /// When it ended.
    pub(crate) ended: Instant,
    /// What it used.
    pub(crate) usage: Usage,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// How long it ran.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.started
    }

    /// Panics, with what it printed, unless it succeeded.
    pub(crate) fn expect_success(&self, what: &str) -> &Self {
        assert!(self.code == Some(0), "{what}: {self:#?}");
        self
    }
}

/// Runs all jobs at once; the results are in the jobs' order.
pub(crate) fn run_all(jobs: Vec<Job>) -> Vec<Finished> {
    thread::scope(|scope| {
        let running: Vec<_> = jobs
            .into_iter()
            .map(|job| scope.spawn(|| job.run()))
            .collect();
        running.into_iter().map(|job| job.join().unwrap()).collect()
    })
}

/// Waits until `pid` ends (it stays to be reaped) and says when it did and what it used.
///
/// The end is awaited in a system call, for a time without the grain of polling; memory is gone by
/// then, so a second thread samples it. That thread also keeps the deadline.
fn watch(pid: Pid, deadline: Instant) -> (Instant, Usage) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak_rss_bytes = 0;
            while !ended.load(Ordering::Relaxed) {
                peak_rss_bytes = peak_rss_bytes.max(Usage::of(pid).peak_rss_bytes);
                if Instant::now() > deadline {
                    let _ = kill_process(pid, Signal::KILL);
                }
                thread::park_timeout(SAMPLE_EVERY);
            }
            peak_rss_bytes
        });
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .unwrap();
        let end = Instant::now();
        let usage = Usage::of(pid);
        ended.store(true, Ordering::Relaxed);
        sampler.thread().unpark();
        let peak_rss_bytes = sampler.join().unwrap();
        (
            end,
            Usage {
                peak_rss_bytes,
                ..usage
            },
        )
    })
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

#[test]
fn processor_time_is_read_even_when_the_name_has_spaces_and_brackets() {
    let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1";
    assert_eq!(cpu_time(stat), Duration::from_secs(2));
}
