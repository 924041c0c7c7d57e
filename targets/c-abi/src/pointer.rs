//! What is checked of every pointer before it is used: that it is not null, that it is aligned, and
//! that what it points to does not reach past the end of the address space. The rest is up to the
//! caller, as everywhere in C.
//!
//! Structs are copied once, and only the copy is looked at: what was checked is what is used.

use crate::status::{Error, Status};
use core::slice;

/// The struct at `from`.
///
/// # Safety
/// Unless null or misaligned, `from` points to a `T`.
pub(crate) unsafe fn read<T: Copy>(from: *const T, name: &'static str) -> Result<T, Error> {
    check(from, 1, name)?;
    // SAFETY: not null, aligned; the rest as the caller says.
    Ok(unsafe { from.read() })
}

/// Writes `value` to the caller's `to`.
///
/// # Safety
/// Unless null or misaligned, `to` points to room for a `T`.
pub(crate) unsafe fn write<T>(to: *mut T, value: T, name: &'static str) -> Result<(), Error> {
    check(to, 1, name)?;
    // SAFETY: not null, aligned; the rest as the caller says.
    unsafe { to.write(value) };
    Ok(())
}

/// The `len` values at `from`, which may be null if there are none.
///
/// # Safety
/// Unless null, misaligned or too long, `from` points to so many values which nobody changes during
/// `'a`.
pub(crate) unsafe fn values<'a, T>(from: *const T, len: usize, name: &'static str) -> Result<&'a [T], Error> {
    if len == 0 {
        return Ok(&[]);
    }
    check(from, len, name)?;
    // SAFETY: not null, aligned, no longer than an object can be; the rest as the caller says.
    Ok(unsafe { slice::from_raw_parts(from, len) })
}

/// Room for `len` values at `to`, zeroed; may be null if there is none.
///
/// # Safety
/// Unless null, misaligned or too long, `to` points to so much room which nobody else uses during
/// `'a`, and zeroes are a `T`.
pub(crate) unsafe fn room<'a, T: bytemuck::Zeroable>(
    to: *mut T,
    len: usize,
    name: &'static str,
) -> Result<&'a mut [T], Error> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(to, len, name)?;
    // SAFETY: not null, aligned, no longer than an object can be, and initialised by the first
    // line; the rest as the caller says.
    unsafe {
        to.write_bytes(0, len);
        Ok(slice::from_raw_parts_mut(to, len))
    }
}

/// Whether `len` values could be at `pointer`.
pub(crate) fn check<T>(pointer: *const T, len: usize, name: &'static str) -> Result<(), Error> {
    let fits = |bytes: usize| bytes <= isize::MAX as usize && pointer.addr().checked_add(bytes).is_some();
    if pointer.is_null() {
        Err(Error::Argument { name, status: Status::NullPointer })
    } else if !pointer.is_aligned() {
        Err(Error::Argument { name, status: Status::Misaligned })
    } else if !len.checked_mul(size_of::<T>()).is_some_and(fits) {
        Err(Error::Argument { name, status: Status::Length })
    } else {
        Ok(())
    }
}
