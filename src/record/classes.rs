//! What the bytes of a text are, 64 at a time: a bit for each byte, the first one lowest.
//!
//! It is done with AVX2 where the processor has it, and else by the crate `wide`, with the same result.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "instructions that not every processor has, and loads of them"
    )
)]

/// Bytes looked at in one step.
pub(super) const STEP: usize = 64;

/// The classes that matter to JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) quotes: u64,
    pub(super) backslashes: u64,
    /// Braces and square brackets, and some letters that are like them: `Y`, `y`, `_` and DEL.
    pub(super) brackets: u64,
    pub(super) colons: u64,
    pub(super) commas: u64,
    /// Control characters, those before the space.
    pub(super) controls: u64,
    /// Bytes that are not ASCII.
    pub(super) others: u64,
}

/// The bits in which braces and brackets differ, set; and how they look then.
const LIKE: u8 = b'{' ^ b'}' | b'{' ^ b'[';
const BRACKET: u8 = LIKE | b'{';
/// The last control character before the space.
const CONTROL: u8 = b' ' - 1;

/// Sorts the bytes of one step.
#[inline]
pub(super) fn classify(text: &[u8; STEP]) -> Classes {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::classify(text) };
    }
    portable::classify(text)
}

mod portable {
    use wide::u8x64;

    use super::{BRACKET, CONTROL, Classes, LIKE, STEP};

    pub(super) fn classify(text: &[u8; STEP]) -> Classes {
        let text = u8x64::from(*text);
        let equal = |text: u8x64, byte| text.simd_eq(u8x64::splat(byte)).to_bitmask();
        Classes {
            quotes: equal(text, b'"'),
            backslashes: equal(text, b'\\'),
            brackets: equal(text | u8x64::splat(LIKE), BRACKET),
            colons: equal(text, b':'),
            commas: equal(text, b','),
            controls: text.min(u8x64::splat(CONTROL)).simd_eq(text).to_bitmask(),
            others: text.to_bitmask(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };

    use super::{BRACKET, CONTROL, Classes, LIKE, STEP};

    #[target_feature(enable = "avx2")]
    pub(super) fn classify(text: &[u8; STEP]) -> Classes {
        let (low, high) = text.split_at(STEP / 2);
        // SAFETY: each half has the 32 bytes that are loaded; they need not be aligned.
        let text = unsafe {
            [
                _mm256_loadu_si256(low.as_ptr().cast()),
                _mm256_loadu_si256(high.as_ptr().cast()),
            ]
        };
        let splat = |byte: u8| _mm256_set1_epi8(byte.cast_signed());
        let like = text.map(|half| _mm256_or_si256(half, splat(LIKE)));
        let equal =
            |text: [__m256i; 2], byte| bits(text.map(|half| _mm256_cmpeq_epi8(half, splat(byte))));
        let least = |half| _mm256_cmpeq_epi8(half, _mm256_min_epu8(half, splat(CONTROL)));
        Classes {
            quotes: equal(text, b'"'),
            backslashes: equal(text, b'\\'),
            brackets: equal(like, BRACKET),
            colons: equal(text, b':'),
            commas: equal(text, b','),
            controls: bits(text.map(least)),
            others: bits(text),
        }
    }

    /// The highest bit of each byte.
    #[target_feature(enable = "avx2")]
    fn bits([low, high]: [__m256i; 2]) -> u64 {
        let bits = |half| u64::from(_mm256_movemask_epi8(half).cast_unsigned());
        bits(low) | bits(high) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as it is said.
    fn expected(text: &[u8; STEP]) -> Classes {
        let bits = |is: fn(u8) -> bool| {
            let bytes = text.iter().enumerate();
            bytes.fold(0, |bits, (at, byte)| bits | u64::from(is(*byte)) << at)
        };
        Classes {
            quotes: bits(|byte| byte == b'"'),
            backslashes: bits(|byte| byte == b'\\'),
            brackets: bits(|byte| b"{}[]Yy_\x7f".contains(&byte)),
            colons: bits(|byte| byte == b':'),
            commas: bits(|byte| byte == b','),
            controls: bits(|byte| byte < b' '),
            others: bits(|byte| byte >= 0x80),
        }
    }

    #[test]
    fn every_byte_is_sorted_alike_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..STEP {
                for rest in [b'a', !byte] {
                    let mut text = [rest; STEP];
                    text[at] = byte;
                    assert_eq!(portable::classify(&text), expected(&text), "{text:?}");
                    assert_eq!(classify(&text), expected(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_instructions_of_this_processor_are_tried() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "no AVX2 here: it is not tried"
            );
        }
    }
}
