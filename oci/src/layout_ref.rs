//! How operators name what lies in an image layout.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use autonomy_schema::{Code, Reason, Sha256};

/// A manifest of a layout, as operators name it: `oci:PATH`, `oci:PATH:TAG` or `oci:PATH@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutRef {
    /// The folder of the layout.
    pub path: PathBuf,
    /// Which manifest; the only set of the layout when absent.
    pub pick: Option<Pick>,
}

/// Which manifest of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// By its `org.opencontainers.image.ref.name`.
    Tag(String),
    /// By its digest.
    Digest(Sha256),
}

impl fmt::Display for LayoutRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}", self.path.display())?;
        match &self.pick {
            Some(Pick::Tag(tag)) => write!(f, ":{tag}"),
            Some(Pick::Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for LayoutRef {
    type Err = Reason;

    /// A colon without a slash after it begins the tag, as in skopeo's `oci:path:tag`.
    fn from_str(text: &str) -> Result<Self, Reason> {
        let wrong = |why: &str| {
            Reason::new(Code::BadValue, format!("`{}` {why}", text.escape_debug()))
                .with_remedy("write `oci:PATH`, `oci:PATH:TAG` or `oci:PATH@sha256:…`")
        };
        let rest = text.strip_prefix("oci:").ok_or_else(|| wrong("is no image layout"))?;
        let (path, pick) = if let Some((path, digest)) = rest.split_once("@sha256:") {
            let digest =
                format!("sha256:{digest}").parse().map_err(|error| wrong(&format!("has a bad digest: {error}")))?;
            (path, Some(Pick::Digest(digest)))
        } else {
            match rest.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(Pick::Tag(tag.to_owned()))),
                _ => (rest, None),
            }
        };
        if path.is_empty() {
            return Err(wrong("names no folder"));
        }
        if pick == Some(Pick::Tag(String::new())) {
            return Err(wrong("has an empty tag"));
        }
        Ok(Self { path: PathBuf::from(path), pick })
    }
}
