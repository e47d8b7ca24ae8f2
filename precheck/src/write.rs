//! Orders of verbs by which a step becomes durable outside the state root: the old thing is there or the new one, never half.

use autonomy_schema::manifest::{Effect, MAX_UNIT_BYTES, SystemdUnit, unit_links};
use autonomy_schema::{Mode, RelPath};
use autonomy_stateroot::{DiskError, FileKind, StateDisk, SyncTarget, durable, os_difference, read_capped};

/// Bytes in one write.
const WRITE_BYTES: usize = 1 << 20;

/// Where the content of a file goes.
pub(crate) struct Writer<'a> {
    os: &'a dyn StateDisk,
    path: RelPath,
    offset: u64,
}

impl Writer<'_> {
    /// Begins anew: what was written counts for nothing.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.offset = 0;
        self.os.set_len(&self.path, 0).map_err(|error| told(&error))
    }

    /// Writes on.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        for chunk in bytes.chunks(WRITE_BYTES) {
            self.os.write_at(&self.path, self.offset, chunk).map_err(|error| told(&error))?;
            self.offset += chunk.len() as u64;
        }
        Ok(())
    }
}

pub(crate) fn told(error: &DiskError) -> String {
    error.to_reason().message
}

/// Brings about `effect` at `place`, durably.
pub(crate) fn put(
    os: &dyn StateDisk,
    place: &RelPath,
    effect: &Effect<'_>,
    content: &dyn Fn(&mut Writer<'_>) -> Result<(), String>,
) -> Result<(), String> {
    make_parents(os, place).map_err(|error| unreachable_place(place, &error))?;
    let there = os.stat(place).map_err(|error| told(&error))?;
    match (effect, there.map(|stat| stat.kind)) {
        (Effect::File { .. } | Effect::Link { .. }, Some(FileKind::Dir)) => {
            Err("a directory stands in its place".to_owned())
        }
        (Effect::File { mode, .. }, _) => put_file(os, place, *mode, content),
        (Effect::Link { target }, _) => durable::point(os, place, target).map_err(|error| told(&error)),
        (Effect::Dir { mode }, None | Some(FileKind::Dir)) => {
            put_dir(os, place, *mode, there.is_none()).map_err(|error| told(&error))
        }
        (Effect::Dir { .. }, Some(FileKind::File | FileKind::Symlink | FileKind::Other)) => {
            Err("something that is no directory stands in its place".to_owned())
        }
    }
}

fn put_file(
    os: &dyn StateDisk,
    place: &RelPath,
    mode: Mode,
    content: &dyn Fn(&mut Writer<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let tmp = durable::beside(place).map_err(|error| told(&error))?;
    // What a run before left there may be anything by now.
    if os.stat(&tmp).map_err(|error| told(&error))?.is_some() {
        os.remove(&tmp).map_err(|error| told(&error))?;
    }
    let mut writer = Writer { os, path: tmp.clone(), offset: 0 };
    let written = writer.restart().and_then(|()| content(&mut writer)).and_then(|()| {
        let finish = || -> Result<(), DiskError> {
            os.set_meta(&tmp, mode)?;
            os.sync(SyncTarget::File(&tmp))?;
            os.rename(&tmp, place)
        };
        finish().map_err(|error| told(&error))
    });
    if let Err(why) = written {
        // A full disk is not helped by a half file; if this fails too, the next run begins with it.
        let _removed = os.remove(&tmp);
        return Err(why);
    }
    os.sync(SyncTarget::Dir(place.parent().as_ref())).map_err(|error| told(&error))
}

fn put_dir(os: &dyn StateDisk, place: &RelPath, mode: Mode, is_absent: bool) -> Result<(), DiskError> {
    if is_absent {
        os.mkdir(place)?;
    }
    os.set_meta(place, mode)?;
    os.sync(SyncTarget::Dir(Some(place)))?;
    os.sync(SyncTarget::Dir(place.parent().as_ref()))
}

/// Makes durable what is there already.
pub(crate) fn settle(os: &dyn StateDisk, place: &RelPath, effect: &Effect<'_>) -> Result<(), DiskError> {
    match effect {
        Effect::File { .. } => os.sync(SyncTarget::File(place))?,
        Effect::Dir { .. } => os.sync(SyncTarget::Dir(Some(place)))?,
        Effect::Link { .. } => {}
    }
    // Its parents too: a run that was killed may have made them.
    let mut parent = place.parent();
    while let Some(folder) = parent {
        os.sync(SyncTarget::Dir(Some(&folder)))?;
        parent = folder.parent();
    }
    os.sync(SyncTarget::Dir(None))
}

/// Makes the folders above `place` that are missing, for everybody to enter, durably: each has its mode before its name, so
/// that none is left which only root may enter.
fn make_parents(os: &dyn StateDisk, place: &RelPath) -> Result<(), DiskError> {
    let mut missing = Vec::new();
    let mut at = place.parent();
    while let Some(folder) = at {
        if os.stat(&folder)?.is_some() {
            break;
        }
        at = folder.parent();
        missing.push(folder);
    }
    for folder in missing.iter().rev() {
        let tmp = durable::beside(folder)?;
        if os.stat(&tmp)?.is_some() {
            os.remove(&tmp)?;
        }
        os.mkdir(&tmp)?;
        os.set_meta(&tmp, Mode::PROGRAM)?;
        os.sync(SyncTarget::Dir(Some(&tmp)))?;
        os.rename(&tmp, folder)?;
        os.sync(SyncTarget::Dir(folder.parent().as_ref()))?;
    }
    Ok(())
}

fn unreachable_place(place: &RelPath, error: &DiskError) -> String {
    const LOOP: i32 = 40;
    match error.source.raw_os_error() {
        Some(LOOP) => {
            format!("a folder above `/{place}` is a symbolic link; name the real one, and allow it in `node.yaml`")
        }
        _ => told(error),
    }
}

/// Enables a unit by the links that its `[Install]` section asks for; gives whether one of them was not there before.
pub(crate) fn enable(os: &dyn StateDisk, place: &RelPath, unit: &SystemdUnit) -> Result<bool, String> {
    if !unit.enable {
        return Ok(false);
    }
    let bytes = read_capped(os, place, MAX_UNIT_BYTES).map_err(|error| error.to_reason().message)?;
    let text = String::from_utf8(bytes.unwrap_or_default()).map_err(|_not_utf8| "the unit is not UTF-8".to_owned())?;
    let mut has_changed = false;
    for (link, target) in unit_links(&unit.name, &text)? {
        let effect = Effect::Link { target: &target };
        if os_difference(os, &link, &effect).is_none() {
            settle(os, &link, &effect).map_err(|error| told(&error))?;
            continue;
        }
        // Never over a unit file of somebody else: an alias may have the name of one.
        let there = os.stat(&link).map_err(|error| told(&error))?;
        if there.is_some_and(|stat| stat.kind != FileKind::Symlink) {
            return Err(format!("`/{link}` is in the way of its link"));
        }
        make_parents(os, &link).map_err(|error| unreachable_place(&link, &error))?;
        durable::point(os, &link, &target).map_err(|error| told(&error))?;
        has_changed = true;
    }
    Ok(has_changed)
}

/// Where a link at `place` leads by its text, below the root of the operating system; `None` when it climbs out of it.
pub(crate) fn target_of(place: &RelPath, text: &str) -> Option<RelPath> {
    let mut parts: Vec<&str> = Vec::new();
    let parent = place.parent();
    if !text.starts_with('/')
        && let Some(parent) = &parent
    {
        parts.extend(parent.components());
    }
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    parts.join("/").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_where_its_text_says() {
        let place = RelPath::fixed("usr/local/bin/agent");
        let shown = |text: &str| target_of(&place, text).map(|path| path.to_string());
        assert_eq!(shown("/opt/x").as_deref(), Some("opt/x"));
        assert_eq!(shown("other").as_deref(), Some("usr/local/bin/other"));
        assert_eq!(shown("../../../etc/shadow").as_deref(), Some("etc/shadow"));
        assert_eq!(shown("../../../../etc"), None);
    }
}
