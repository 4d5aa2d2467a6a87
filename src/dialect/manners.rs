//! Where decant's data listener differs from real Kask, on purpose.

/// Each is off for the embedded Kask, which answers as real Kask does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// PUT stores, as POST does (RESTBagOStuff's default method). Otherwise 400.
    pub put_is_post: bool,
    /// HEAD is GET without the body. Otherwise 400.
    pub head_is_get: bool,
    /// `Cache-Control: no-cache` and `If-None-Match: *` are heard. Otherwise ignored.
    pub conditional: bool,
    /// Every answer carries `X-Request-Id`.
    pub request_id: bool,
    /// Keys that begin with `decant|` are refused: decant's own records stand there.
    pub reserved_keys: bool,
    /// A body over the limit is answered 413. Otherwise 500, as Kask does when Cassandra refuses a value.
    pub says_too_large: bool,
}

impl Manners {
    /// decant's data listener.
    pub const DECANT: Manners = Manners {
        put_is_post: true,
        head_is_get: true,
        conditional: true,
        request_id: true,
        reserved_keys: true,
        says_too_large: true,
    };
    /// Real Kask.
    pub const KASK: Manners = Manners {
        put_is_post: false,
        head_is_get: false,
        conditional: false,
        request_id: false,
        reserved_keys: false,
        says_too_large: false,
    };
}
