//! placeholder until the codecs land
pub struct Transcoder;
pub struct Untranscodable {
    pub reason: &'static str,
    pub detail: String,
}
impl Transcoder {
    pub fn to_redis(&self, body: &[u8]) -> Vec<u8> {
        body.to_vec()
    }
    pub fn to_kask(&self, bytes: &[u8]) -> Result<Vec<u8>, Untranscodable> {
        Ok(bytes.to_vec())
    }
}
