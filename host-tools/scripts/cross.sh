#!/bin/bash
# Runs cargo for another target: bare metal, WebAssembly, or Linux on aarch64.
#
#   cross.sh TARGET CARGO-COMMAND [ARGUMENTS...]
#   cross.sh thumbv7em-none-eabihf build --release
#
# For aarch64-unknown-linux-gnu it links with gcc-aarch64-linux-gnu and runs programs and tests under
# qemu-user, as the CPU that QEMU_CPU names.
#
# Where the toolchain has the target (`rustup target add TARGET`), this is that cargo command with
# `--target TARGET` and nothing else. Where it has not and rustup cannot download it, it takes
# Debian's compiler with Debian's library sources, builds `core` and `alloc` for the target once
# (about 20 s), keeps them, and hands them to cargo as a sysroot: an ordinary stable build again,
# in which nightly-only code is refused as everywhere. For aarch64 Linux Debian has a built `std`,
# which is unpacked instead.
#
# CROSS_SYSROOTS      where the sysroots are kept       (~/.cache/ouro/sysroots)
# CARGO_TARGET_DIR    where cargo writes to             (target/cross in the repository)
#
# Exit status 69: there is no toolchain for the target, and standard error says how to get one.
set -euo pipefail

(($# >= 2)) || { echo "usage: cross.sh TARGET CARGO-COMMAND [ARGUMENTS...]" >&2; exit 64; }
target=$1
command=$2
shift 2
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Apart from the host's builds: another compiler would rebuild them, and they it.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repository/target/cross}

linux=aarch64-unknown-linux-gnu
if [ "$target" = $linux ]; then
    command -v aarch64-linux-gnu-gcc >/dev/null || {
        echo "cross.sh: no linker for $target: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2
        exit 69
    }
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
fi

if compgen -G "$(rustc --print target-libdir --target "$target")/libcore-*.rlib" >/dev/null; then
    exec cargo "$command" --target "$target" "$@"
fi

debian=/usr/bin/rustc
if ! [ -x "$debian" ] || ! [ -x /usr/bin/cargo ] || ! [ -d /usr/lib/rustlib/src/rust/library/core ]; then
    cat >&2 <<END
cross.sh: the toolchain has no core library for $target. Do one of these:
    rustup target add $target
    apt-get install --no-install-recommends rustc-web cargo-web rust-web-src rust-web-clippy   # Debian 12
END
    exit 69
fi

# The linker that bare-metal targets name, rust-lld, comes with rustup's toolchain; Debian's has
# none. It is looked up last.
host=$(rustc -vV | sed -n "s/^host: //p")
export PATH=/usr/bin:$PATH:$(rustc --print sysroot)/lib/rustlib/$host/bin
if [ "$target" != $linux ] && ! command -v rust-lld >/dev/null; then
    if [ -x /usr/bin/ld.lld-19 ]; then
        variable=${target^^}
        export "CARGO_TARGET_${variable//-/_}_LINKER=/usr/bin/ld.lld-19"
    else
        echo "cross.sh: no linker for $target: install Rust by rustup, or apt-get install lld-19" >&2
        exit 69
    fi
fi

# Libraries of another compiler are refused (E0514), so its version is in the folder's name.
version=$("$debian" -V)
sysroot=${CROSS_SYSROOTS:-$HOME/.cache/ouro/sysroots}/${version//[^A-Za-z0-9.]/-}
libraries=$sysroot/lib/rustlib/$target/lib

# Debian's `std`, of the version of its compiler. The host's own package lists stay as they are.
unpack_std() {
    local version
    version=$(dpkg-query -W -f='${Version}' rustc-web)
    (
        cd "$1"
        mkdir -p apt/lists/partial apt/cache/archives/partial unpacked
        options=(-qq -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o "Dir::State::Lists=$1/apt/lists"
            -o "Dir::Cache=$1/apt/cache" -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update
        apt-get "${options[@]}" download "libstd-rust-web-dev:arm64=$version"
        dpkg -x ./*.deb unpacked
        mv "unpacked/usr/lib/rustlib/$target/lib" libraries
    )
}

build_core() {
    (
        cd "$1"
        mkdir src libraries
        echo '#![no_std]' >src/lib.rs
        printf '[package]\nname = "sysroot"\nedition = "2024"\n[workspace]\n' >Cargo.toml
        # RUSTC_BOOTSTRAP is for -Z build-std alone. Without the bitcode, firmware with LTO does not link.
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C embed-bitcode=yes" CARGO_TARGET_DIR=target \
            cargo build -q --release -Z build-std=core,alloc --target "$target"
        cp "target/$target"/release/deps/lib{core,alloc,compiler_builtins}-*.rlib libraries
    )
}

# Makes `libraries` in a folder of its own, and moves it last, so that half a sysroot is never taken
# for a whole one. It is removed when the calling subshell ends, however it ends.
build_sysroot() {
    folder=$(mktemp -d "$sysroot/build-XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    if [ "$target" = $linux ]; then unpack_std "$folder"; else build_core "$folder"; fi
    mkdir -p "${libraries%/*}"
    mv -T "$folder/libraries" "$libraries"
}

if ! [ -d "$libraries" ]; then
    mkdir -p "$sysroot"
    (
        flock 9
        [ -d "$libraries" ] || { # unless somebody else has just made them
            echo "cross.sh: making the libraries of $target with $version" >&2
            build_sysroot
        }
    ) 9>"$sysroot/lock"
fi

# RUSTFLAGS would replace the flags of a crate's .cargo/config.toml; a --config adds to them.
if [ -n "${RUSTFLAGS:-}" ]; then
    export RUSTFLAGS="--sysroot=$sysroot $RUSTFLAGS"
    exec cargo "$command" --target "$target" "$@"
fi
exec cargo "$command" --config "build.rustflags = ['--sysroot=$sysroot']" --target "$target" "$@"
