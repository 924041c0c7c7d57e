//! Fewer loops for a board that gets hot or was told to save power, before it slows down by itself.

use crate::error::Error;
use clap::ValueEnum;
use ouro_runtime::session::Session;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether heat and power matter.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Budget")]
pub struct PowerArgs {
    /// auto: lower --budget (D loops unless given) while a thermal zone comes near its limit, or the
    /// clock frequency is limited, down to the fallback depth
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub power: PowerMode,
    /// Where the kernel shows its state, its count of energy included
    #[arg(long, value_name = "FOLDER", default_value = "/sys", hide = true)]
    pub sysfs: PathBuf,
}

/// What `--power` may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PowerMode {
    /// Heat and power do not matter.
    #[default]
    Off,
    /// As the kernel's thermal zones and frequency limits have it.
    Auto,
}

/// Millidegrees before its limit from which on a zone counts as warm.
const WARM: i64 = 10_000;
/// Millidegrees before the temperature at which the kernel shuts down, where it names no other limit:
/// boards slow down by themselves about there.
const BEFORE_CRITICAL: i64 = 25_000;
/// How often the kernel is asked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Lowers a session's loop rate as need be.
#[derive(Debug)]
pub struct Power {
    sysfs: PathBuf,
    /// The rate when all is well, and the least, in thousandths of a loop.
    full: u64,
    least: u64,
    asked: Option<Instant>,
    /// The lowest rate so far.
    pub lowest: u64,
}

impl PowerArgs {
    /// What watches over a session that has a budget of loops; `None` if that is not wanted.
    ///
    /// # Errors
    /// [`Error::Usage`] if the kernel shows neither temperatures nor frequencies.
    pub fn watch(&self, session: &Session<'_>) -> Result<Option<Power>, Error> {
        let Some(loops) = session.budget().loops.filter(|_| self.power == PowerMode::Auto) else {
            return Ok(None);
        };
        if headroom(&self.sysfs).or_else(|| frequency(&self.sysfs)).is_none() {
            let sysfs = self.sysfs.display();
            let text =
                format!("--power auto: no thermal zone and no frequency limits in {sysfs}; leave it out");
            return Err(Error::Usage(text));
        }
        let least = session.budget().fallback as u64 * ouro_runtime::depth::LOOP;
        let (full, sysfs) = (loops.rate, self.sysfs.clone());
        Ok(Some(Power { sysfs, full, least, asked: None, lowest: full }))
    }
}

impl Power {
    /// Sets the session's loop rate to what can be afforded now. The kernel is asked now and then.
    pub fn adjust(&mut self, session: &mut Session<'_>) {
        if self.asked.is_some_and(|asked| asked.elapsed() < INTERVAL) {
            return;
        }
        self.asked = Some(Instant::now());
        let rate = rate(share(&self.sysfs), self.full, self.least);
        self.lowest = self.lowest.min(rate);
        // It is never below the fallback depth, which is all that could be refused.
        let _ = session.set_loop_rate(rate);
    }
}

/// The rate for a share of what lies between `least` and `full`.
fn rate(share: f64, full: u64, least: u64) -> u64 {
    least + (full.saturating_sub(least) as f64 * share.clamp(0.0, 1.0)) as u64
}

/// The share of its full power that the machine can give for long: 1 while it is cool and its clock is
/// not limited. What can't be read counts as well.
#[must_use]
pub fn share(sysfs: &Path) -> f64 {
    headroom(sysfs).unwrap_or(1.0) * frequency(sysfs).unwrap_or(1.0)
}

/// 1 while every thermal zone is at least [`WARM`] below its limit, 0 where one is at it; `None` if
/// there is no zone with a limit.
fn headroom(sysfs: &Path) -> Option<f64> {
    let zones = entries(&sysfs.join("class/thermal"), "thermal_zone");
    let of_zone = |zone: &PathBuf| {
        let temperature = number(&zone.join("temp"))?;
        let margin = limit(zone)?.saturating_sub(temperature);
        Some((margin as f64 / WARM as f64).clamp(0.0, 1.0))
    };
    zones.iter().filter_map(of_zone).min_by(f64::total_cmp)
}

/// The temperature at which something slows down, in millidegrees.
fn limit(zone: &Path) -> Option<i64> {
    let of_trip = |n: usize| {
        let temperature = number(&zone.join(format!("trip_point_{n}_temp")));
        let temperature = temperature.filter(|temperature| *temperature > 0)?;
        match text(&zone.join(format!("trip_point_{n}_type")))?.as_str() {
            "passive" | "hot" => Some(temperature),
            "critical" => Some(temperature - BEFORE_CRITICAL),
            // A fan starts to turn.
            _ => None,
        }
    };
    const TRIPS: usize = 16;
    (0..TRIPS).filter_map(of_trip).min()
}

/// The highest frequency that is allowed now, of that which the processor could have: the lowest of
/// all its parts. `None` where frequencies are fixed.
fn frequency(sysfs: &Path) -> Option<f64> {
    let policies = entries(&sysfs.join("devices/system/cpu/cpufreq"), "policy");
    let of_policy = |policy: &PathBuf| {
        let read = |name: &str| number(&policy.join(name)).filter(|hertz| *hertz > 0);
        let most = read("cpuinfo_max_freq")?;
        // Of the processor's own drivers powersave is the governor that follows the load.
        let own = text(&policy.join("scaling_driver")).is_some_and(|driver| driver.contains("pstate"));
        let saves = !own && text(&policy.join("scaling_governor")).as_deref() == Some("powersave");
        let allowed = read(if saves { "scaling_min_freq" } else { "scaling_max_freq" })?;
        Some((allowed as f64 / most as f64).min(1.0))
    };
    policies.iter().filter_map(of_policy).min_by(f64::total_cmp)
}

/// What in a folder begins with `prefix`.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named).collect()
}

fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

fn number(file: &Path) -> Option<i64> {
    text(file)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{content}\n")).unwrap();
        }
        folder
    }

    fn zone<'t>(temp: &'t str, kind: &'t str, trip: &'t str) -> [(&'static str, &'t str); 3] {
        [
            ("class/thermal/thermal_zone0/temp", temp),
            ("class/thermal/thermal_zone0/trip_point_0_type", kind),
            ("class/thermal/thermal_zone0/trip_point_0_temp", trip),
        ]
    }

    #[test]
    fn heat() {
        // Temperature, kind and temperature of the trip point; the share that is left.
        for (temp, kind, trip, expected) in [
            ("45000", "passive", "85000", 1.0),
            ("75000", "passive", "85000", 1.0),
            ("80000", "passive", "85000", 0.5),
            ("84000", "hot", "85000", 0.1),
            ("85000", "passive", "85000", 0.0),
            ("99000", "passive", "85000", 0.0),
            // As a Raspberry Pi 4 has it, which slows down at 80 to 85 degrees.
            ("80000", "critical", "110000", 0.5),
            ("80000", "active", "60000", 1.0),
            ("80000", "passive", "0", 1.0),
            ("-5000", "passive", "85000", 1.0),
            ("nonsense", "passive", "85000", 1.0),
        ] {
            let folder = sysfs(&zone(temp, kind, trip));
            assert_eq!(share(folder.path()), expected, "{temp} {kind} {trip}");
        }
        let mut files = zone("30000", "passive", "85000").to_vec();
        files.extend([
            ("class/thermal/thermal_zone1/temp", "82500"),
            ("class/thermal/thermal_zone1/trip_point_0_type", "critical"),
            ("class/thermal/thermal_zone1/trip_point_0_temp", "120000"),
            ("class/thermal/thermal_zone1/trip_point_1_type", "passive"),
            ("class/thermal/thermal_zone1/trip_point_1_temp", "90000"),
            ("class/thermal/cooling_device0/temp", "900000"),
        ]);
        assert_eq!(share(sysfs(&files).path()), 0.75, "the hottest zone and its lowest limit");
    }

    #[test]
    fn frequencies() {
        // Driver, governor, what is allowed at least and at most of 2 GHz; the share.
        for (driver, governor, least, most, expected) in [
            ("cpufreq-dt", "ondemand", "600000", "2000000", 1.0),
            ("cpufreq-dt", "schedutil", "600000", "1000000", 0.5),
            ("cpufreq-dt", "powersave", "600000", "2000000", 0.3),
            ("intel_pstate", "powersave", "400000", "2000000", 1.0),
            ("amd-pstate-epp", "powersave", "400000", "1500000", 0.75),
            ("cpufreq-dt", "ondemand", "600000", "0", 1.0),
        ] {
            let folder = sysfs(&[
                ("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "2000000"),
                ("devices/system/cpu/cpufreq/policy0/scaling_driver", driver),
                ("devices/system/cpu/cpufreq/policy0/scaling_governor", governor),
                ("devices/system/cpu/cpufreq/policy0/scaling_min_freq", least),
                ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", most),
            ]);
            assert_eq!(share(folder.path()), expected, "{driver} {governor} {least} {most}");
        }
        assert_eq!(share(Path::new("/there/is/no/such/folder")), 1.0);
    }

    #[test]
    fn rates() {
        for (share, expected) in [(1.0, 4000), (0.5, 2500), (0.0, 1000), (-1.0, 1000), (2.0, 4000)] {
            assert_eq!(rate(share, 4000, 1000), expected);
        }
        assert_eq!(rate(0.5, 1000, 1000), 1000);
    }
}
