//! The energy that the processor has used, as Linux counts it (RAPL: Intel, and AMD since Zen).

use crate::error::Error;
use ouro_runtime::depth::EnergyMeter;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The packages of the processor, each with a counter of its own.
#[derive(Debug)]
pub struct Rapl {
    packages: Mutex<Packages>,
}

#[derive(Debug)]
struct Packages {
    counters: Vec<Counter>,
    /// Microjoules since the meter was made.
    used: u64,
}

/// A counter that begins again from 0 when it has reached its end.
#[derive(Debug)]
struct Counter {
    file: PathBuf,
    /// The largest value.
    range: u64,
    last: u64,
}

impl Counter {
    fn read(&self) -> io::Result<u64> {
        number(&self.file)
    }

    /// Microjoules since this was last asked; none where it can't be read any more.
    fn advance(&mut self) -> u64 {
        let Ok(now) = self.read() else { return 0 };
        let used =
            if now >= self.last { now - self.last } else { self.range.saturating_sub(self.last) + now };
        self.last = now;
        used
    }
}

fn number(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no number"))
}

impl Rapl {
    /// The counters that the kernel shows in `sysfs`, which is `/sys`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are none, or if they can't be read.
    pub fn open(sysfs: &Path) -> Result<Self, Error> {
        let folder = sysfs.join("class/powercap");
        let zones = fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        // A zone of cores or memory is a part of a package; "psys" has the packages as parts.
        let is_package = |zone: &PathBuf| {
            let name = fs::read_to_string(zone.join("name")).unwrap_or_default();
            zone.file_name().is_some_and(|name| name.to_string_lossy().starts_with("intel-rapl:"))
                && name.starts_with("package-")
        };
        let counter = |zone: PathBuf| {
            let read = |name: &str| {
                let file = zone.join(name);
                let unreadable = |error: io::Error| {
                    let is_roots = error.kind() == io::ErrorKind::PermissionDenied;
                    let way_out = if is_roots { "; run as root, or `chmod a+r` it" } else { "" };
                    Error::Usage(format!("--energy-budget: {}: {error}{way_out}", file.display()))
                };
                number(&file).map_err(unreadable)
            };
            let (range, last) = (read("max_energy_range_uj")?, read("energy_uj")?);
            Ok(Counter { file: zone.join("energy_uj"), range, last })
        };
        let counters = zones.filter(is_package).map(counter).collect::<Result<Vec<_>, Error>>()?;
        if counters.is_empty() {
            return Err(Error::Usage(format!(
                "--energy-budget: this machine does not tell the energy that it uses: no intel-rapl:*/energy_uj of a \
                 package in {}; leave it out, or bound loops (--budget) or time (--token-time)",
                folder.display()
            )));
        }
        Ok(Self { packages: Mutex::new(Packages { counters, used: 0 }) })
    }
}

impl EnergyMeter for Rapl {
    fn microjoules(&self) -> u64 {
        let mut packages = self.packages.lock().unwrap_or_else(PoisonError::into_inner);
        let Packages { counters, used } = &mut *packages;
        *used += counters.iter_mut().map(Counter::advance).sum::<u64>();
        *used
    }
}

/// Microjoules in the unit in which they are a number that people can read: `1.5 J`, `300 mJ`, `20 uJ`.
pub(super) fn energy_text(microjoules: i64) -> String {
    let (unit, name) = match microjoules.unsigned_abs() {
        1..1000 => (1.0, "uJ"),
        1000..1_000_000 => (1e3, "mJ"),
        _ => (1e6, "J"),
    };
    format!("{} {name}", (microjoules as f64 / unit * 100.0).round() / 100.0)
}

/// Joules, `2`, `0.5J`, `300mJ` or `20uJ`, in microjoules.
pub(super) fn parse_energy(text: &str) -> Result<u64, String> {
    let (number, unit) = [("uJ", 1.0), ("mJ", 1e3), ("J", 1e6), ("", 1e6)]
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .unwrap_or((text, &1e6));
    let joules = number.trim().parse::<f64>().ok().map(|number| (number * unit).round());
    let known = joules.filter(|microjoules| (1.0..=1e15).contains(microjoules));
    known
        .map(|microjoules| microjoules as u64)
        .ok_or_else(|| format!("{text} found, expected joules such as 2, 0.5J or 300mJ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(sysfs: &Path, zone: &str, name: &str, energy: u64) {
        let zone = sysfs.join("class/powercap").join(zone);
        fs::create_dir_all(&zone).unwrap();
        for (file, text) in [
            ("name", name.to_owned()),
            ("max_energy_range_uj", "1000000".to_owned()),
            ("energy_uj", energy.to_string()),
        ] {
            fs::write(zone.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn packages_are_added_up_and_wrap() {
        let sysfs = tempfile::tempdir().unwrap();
        let sysfs = sysfs.path();
        zone(sysfs, "intel-rapl:0", "package-0", 999_000);
        zone(sysfs, "intel-rapl:1", "package-1", 500);
        // Parts of a package, and what has packages as parts.
        zone(sysfs, "intel-rapl:0:0", "core", 7);
        zone(sysfs, "intel-rapl:2", "psys", 7);
        zone(sysfs, "intel-rapl-mmio:0", "package-0", 7);
        let meter = Rapl::open(sysfs).unwrap();
        assert_eq!(meter.microjoules(), 0);
        zone(sysfs, "intel-rapl:0:0", "core", 70_000);
        zone(sysfs, "intel-rapl:2", "psys", 70_000);
        zone(sysfs, "intel-rapl-mmio:0", "package-0", 70_000);
        zone(sysfs, "intel-rapl:1", "package-1", 800);
        assert_eq!(meter.microjoules(), 300);
        zone(sysfs, "intel-rapl:0", "package-0", 2000);
        assert_eq!(meter.microjoules(), 300 + 1000 + 2000);
        fs::write(sysfs.join("class/powercap/intel-rapl:1/energy_uj"), "gone").unwrap();
        assert_eq!(meter.microjoules(), 3300);
        let error = Rapl::open(sysfs).unwrap_err().to_string();
        assert!(
            error.contains("intel-rapl:1/energy_uj: it is no number") && !error.contains("root"),
            "{error}"
        );
    }

    #[test]
    fn a_machine_that_can_not_tell() {
        let sysfs = tempfile::tempdir().unwrap();
        zone(sysfs.path(), "intel-rapl:0:0", "dram", 7);
        for folder in [sysfs.path(), Path::new("/there/is/no/such/folder")] {
            let error = Rapl::open(folder).unwrap_err().to_string();
            assert!(error.contains("does not tell the energy"), "{error}");
        }
    }

    #[test]
    fn joules() {
        for (text, microjoules) in
            [("2", 2_000_000), ("0.5J", 500_000), ("300mJ", 300_000), ("1.5 J", 1_500_000), ("20uJ", 20)]
        {
            assert_eq!(parse_energy(text), Ok(microjoules), "{text}");
        }
        for text in ["", "J", "-1", "0", "NaN", "5kJ", "1e300"] {
            assert!(parse_energy(text).is_err(), "{text}");
        }
        for (microjoules, text) in [
            (0, "0 J"),
            (20, "20 uJ"),
            (-1250, "-1.25 mJ"),
            (123_456, "123.46 mJ"),
            (1_500_000, "1.5 J"),
            (2_345_678_901, "2345.68 J"),
        ] {
            assert_eq!(energy_text(microjoules), text);
        }
    }
}
