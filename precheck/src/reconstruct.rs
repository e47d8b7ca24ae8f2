//! Reconstruction: what a verified manifest wants outside the state root, step by step. Each step can be done again, and is
//! compared with what it should have left when it is done.

use std::collections::BTreeSet;

use autonomy_schema::evidence::Rebuilt;
use autonomy_schema::facts::DriftKind;
use autonomy_schema::manifest::{Artifact, Effect, ReconstructionStep, is_allowed};
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, StateManifest};
use autonomy_stateroot::{DiskError, StateRoot};
use autonomy_trust::Verified;

use crate::artifacts::Artifacts;
use crate::platform::{Installed, Platform};
use crate::write;

/// What is rebuilt, from what, and where.
pub struct Reconstruction<'a> {
    manifest: &'a Verified<StateManifest>,
    artifacts: Artifacts<'a>,
    allowed: Vec<String>,
    platform: &'a dyn Platform,
}

/// A step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDone {
    /// `copyBinary /usr/local/bin/agent`.
    pub label: String,
    /// Whether anything was different before.
    pub has_changed: bool,
    /// The file that lies there now.
    pub file: Option<Rebuilt>,
    /// The unit that lies there now.
    pub unit: Option<Installed>,
}

/// What a whole reconstruction left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuild {
    /// The files that it is responsible for, sorted by path.
    pub files: Vec<Rebuilt>,
    /// The labels of the steps that changed something.
    pub changed: Vec<String>,
}

impl<'a> Reconstruction<'a> {
    /// Of a manifest whose generation is this one.
    pub fn new(
        root: &'a StateRoot,
        manifest: &'a Verified<StateManifest>,
        generation: &'a Name,
        platform: &'a dyn Platform,
    ) -> Result<Self, Reasons> {
        let allowed = root.node()?.destinations;
        Ok(Self { manifest, artifacts: Artifacts { root, generation }, allowed, platform })
    }

    pub(crate) fn steps(&self) -> &[ReconstructionStep] {
        &self.manifest.document().spec.reconstruction.steps
    }

    pub(crate) fn document(&self) -> &StateManifest {
        self.manifest.document()
    }

    pub(crate) fn platform(&self) -> &dyn Platform {
        self.platform
    }

    /// Where its steps write.
    pub fn places(&self) -> BTreeSet<RelPath> {
        self.steps().iter().filter_map(|step| step.place()?.ok()).collect()
    }

    /// Where a step writes.
    pub fn place_of(&self, at: usize) -> Option<RelPath> {
        self.steps().get(at)?.place()?.ok()
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps().len()
    }

    /// Whether there is nothing to rebuild.
    pub fn is_empty(&self) -> bool {
        self.steps().is_empty()
    }

    /// Why it must not begin, sorted: places that are not allowed, and artifacts that are nowhere. Empty when it may.
    pub fn refusals(&self) -> Vec<Reason> {
        let places = self.steps().iter().filter_map(|step| self.place(step).err());
        let mut reasons: Vec<Reason> = places.collect();
        let spec = &self.manifest.document().spec;
        // Hashed before the first write, so that all of them are named at once; what is in its place already is not needed.
        let needs = |artifact: &Artifact| {
            self.steps().iter().any(|step| step.artifact() == Some(&artifact.name) && self.differs(step))
        };
        let needed = spec.artifacts.iter().filter(|artifact| needs(artifact));
        for artifact in needed {
            if let Err(reason) = self.artifacts.find(artifact) {
                reasons.push(reason);
            }
        }
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// Where a step writes, when it may; `None` for a check.
    pub(crate) fn place(&self, step: &ReconstructionStep) -> Result<Option<RelPath>, Reason> {
        let Some(place) = step.place().transpose()? else { return Ok(None) };
        if is_allowed(&place, &self.allowed) {
            return Ok(Some(place));
        }
        let message = format!("`{} /{place}` writes outside the allowed destinations", step.kind());
        Err(Reason::new(Code::DestinationRefused, message))
    }

    /// Carries out one step, by its number from 0.
    pub fn step(&self, at: usize) -> Result<StepDone, Reason> {
        let Some(step) = self.steps().get(at) else {
            return Err(Reason::new(Code::ReconstructionFailed, format!("the manifest has no step {at}")));
        };
        let label = format!("{} {}", step.kind(), step.label());
        let failed = |why: String| Reason::new(Code::ReconstructionFailed, format!("`{label}`: {why}"));
        let disk = |error: DiskError| failed(error.to_reason().message);
        let Some(place) = self.place(step)? else {
            let command = step.verify_config.as_ref().map(|check| check.command.as_slice()).unwrap_or_default();
            self.is_whole_program(command).map_err(failed)?;
            self.platform.check(command).map_err(failed)?;
            return Ok(StepDone { label, has_changed: false, file: None, unit: None });
        };
        let spec = &self.manifest.document().spec;
        let Some(effect) = step.effect(&spec.artifacts) else {
            return Err(failed("the manifest does not pin its artifact".to_owned()));
        };
        let os = self.platform.os();
        self.is_not_led_away(&place, &effect)
            .map_err(|why| Reason::new(Code::DestinationRefused, format!("`{label}`: {why}")))?;
        let mut has_changed = autonomy_stateroot::os_difference(os, &place, &effect).is_some();
        if has_changed {
            write::put(os, &place, &effect, &|writer| self.bytes(step, writer)).map_err(failed)?;
        }
        // What a killed run left, the folders above included, is there and not yet certain to stay.
        write::settle(os, &place, &effect).map_err(disk)?;
        if let Some(drift) = autonomy_stateroot::os_difference(os, &place, &effect) {
            return Err(failed(format!("it is not what was written: found {}, expected {effect}", drift.actual)));
        }
        let unit = step.systemd_unit.as_ref();
        if let Some(unit) = unit {
            // What systemd refuses is not enabled.
            self.platform.verify_unit(&place).map_err(failed)?;
            has_changed |= write::enable(os, &place, unit).map_err(failed)?;
        }
        let file = match effect {
            Effect::File { blake3, .. } => Some(Rebuilt { path: format!("/{place}"), blake3 }),
            Effect::Dir { .. } | Effect::Link { .. } => None,
        };
        let unit = unit.map(|unit| Installed { unit: unit.name.clone(), is_enabled: unit.enable });
        Ok(StepDone { label, has_changed, file, unit })
    }

    /// A program of the release is what the manifest pins. One of a tree is verified with its tree.
    fn is_whole_program(&self, command: &[String]) -> Result<(), String> {
        let artifacts = &self.manifest.document().spec.artifacts;
        let program = command.first().map(String::as_str).unwrap_or_default();
        let Some(artifact) = artifacts.iter().find(|artifact| artifact.path.as_str() == program) else { return Ok(()) };
        if self.artifacts.is_whole_in_generation(artifact) {
            return Ok(());
        }
        Err(format!("the program `{program}` of the active generation is damaged"))
    }

    /// A link that stands where a file or directory goes, and leads to where nothing may be written, is no place to write:
    /// somebody put it there.
    fn is_not_led_away(&self, place: &RelPath, effect: &Effect<'_>) -> Result<(), String> {
        let text = match self.platform.os().read_link(place) {
            Ok(Some(text)) if !matches!(effect, Effect::Link { .. }) => text,
            // Not a link, or nothing; what else is wrong shows when it is written.
            Ok(_) | Err(_) => return Ok(()),
        };
        if write::target_of(place, &text).is_some_and(|target| is_allowed(&target, &self.allowed)) {
            return Ok(());
        }
        Err(format!("a symbolic link to `{}` stands in its place", text.escape_default()))
    }

    /// The content of a file.
    fn bytes(&self, step: &ReconstructionStep, writer: &mut write::Writer<'_>) -> Result<(), String> {
        if let Some(file) = &step.write_file {
            return writer.write(file.content.as_bytes());
        }
        let artifacts = &self.manifest.document().spec.artifacts;
        let artifact = artifacts.iter().find(|artifact| step.artifact() == Some(&artifact.name));
        let artifact = artifact.ok_or("the manifest has no such artifact")?;
        self.artifacts.copy(artifact, writer)
    }

    /// Carries out every step, and lets systemd take up what changed. `each` is told of a step before it begins.
    pub fn run(&self, each: &mut dyn FnMut(&str)) -> Result<Rebuild, Reasons> {
        Reasons::check(self.refusals())?;
        let mut rebuild = Rebuild::default();
        let mut units = Vec::new();
        for at in 0..self.len() {
            each(&self.label(at));
            let done = self.step(at)?;
            rebuild.files.extend(done.file);
            // An earlier run may have written a unit, or what it starts, and not come to this.
            units.extend(done.unit);
            if done.has_changed {
                rebuild.changed.push(done.label);
            }
        }
        rebuild.files.sort();
        self.platform.take_up(&units).map_err(|why| Reason::new(Code::ReconstructionFailed, why))?;
        Ok(rebuild)
    }

    /// The labels of the steps that would change something, checks left out.
    pub fn differences(&self) -> Vec<String> {
        (0..self.len()).filter(|at| self.differs(&self.steps()[*at])).map(|at| self.label(at)).collect()
    }

    /// Whether nothing is where a step writes.
    pub fn is_absent(&self, at: usize) -> bool {
        let artifacts = &self.manifest.document().spec.artifacts;
        let Some(step) = self.steps().get(at) else { return false };
        let (Some(Ok(place)), Some(effect)) = (step.place(), step.effect(artifacts)) else { return false };
        let found = autonomy_stateroot::os_difference(self.platform.os(), &place, &effect);
        found.is_some_and(|drift| drift.kind == DriftKind::Missing)
    }

    /// Whether what a step leaves is not there.
    fn differs(&self, step: &ReconstructionStep) -> bool {
        let artifacts = &self.manifest.document().spec.artifacts;
        let (Some(Ok(place)), Some(effect)) = (step.place(), step.effect(artifacts)) else { return false };
        autonomy_stateroot::os_difference(self.platform.os(), &place, &effect).is_some()
    }

    /// How a step is called.
    pub fn label(&self, at: usize) -> String {
        self.steps().get(at).map(|step| format!("{} {}", step.kind(), step.label())).unwrap_or_default()
    }
}
