//! Reconstruction: what a verified manifest wants outside the state root, step by step. Each step can be done again, and is
//! compared with what it should have left when it is done.

use autonomy_schema::evidence::Rebuilt;
use autonomy_schema::manifest::{Effect, ReconstructionStep, is_allowed};
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

    fn steps(&self) -> &[ReconstructionStep] {
        &self.manifest.document().spec.reconstruction.steps
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
        let needed = spec
            .artifacts
            .iter()
            .filter(|artifact| self.steps().iter().any(|step| step.artifact() == Some(&artifact.name)));
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
    fn place(&self, step: &ReconstructionStep) -> Result<Option<RelPath>, Reason> {
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
        let disk = |error: DiskError| failed(format!("{error}: {}", error.source));
        let Some(place) = self.place(step)? else {
            let command = step.verify_config.as_ref().map(|check| check.command.as_slice()).unwrap_or_default();
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
        } else {
            // What a killed run left is there, and not yet certain to stay.
            write::settle(os, &place, &effect).map_err(disk)?;
        }
        if let Some(drift) = autonomy_stateroot::os_difference(os, &place, &effect) {
            return Err(failed(format!("it is not what was written: found {}, expected {effect}", drift.actual)));
        }
        let unit = step.systemd_unit.as_ref();
        if let Some(unit) = unit {
            has_changed |= write::enable(os, &place, unit).map_err(failed)?;
            self.platform.verify_unit(&place).map_err(failed)?;
        }
        let file = match effect {
            Effect::File { blake3, .. } => Some(Rebuilt { path: format!("/{place}"), blake3 }),
            Effect::Dir { .. } | Effect::Link { .. } => None,
        };
        let unit = unit.map(|unit| Installed { unit: unit.name.clone(), is_enabled: unit.enable });
        Ok(StepDone { label, has_changed, file, unit })
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
            if done.has_changed {
                rebuild.changed.push(done.label);
                units.extend(done.unit);
            }
        }
        rebuild.files.sort();
        self.platform.take_up(&units).map_err(|why| Reason::new(Code::ReconstructionFailed, why))?;
        Ok(rebuild)
    }

    /// The labels of the steps that would change something, checks left out.
    pub fn differences(&self) -> Vec<String> {
        let artifacts = &self.manifest.document().spec.artifacts;
        let differs = |step: &ReconstructionStep| {
            let (place, effect) = (step.place()?.ok()?, step.effect(artifacts)?);
            autonomy_stateroot::os_difference(self.platform.os(), &place, &effect)
        };
        (0..self.len()).filter(|at| differs(&self.steps()[*at]).is_some()).map(|at| self.label(at)).collect()
    }

    /// How a step is called.
    pub fn label(&self, at: usize) -> String {
        self.steps().get(at).map(|step| format!("{} {}", step.kind(), step.label())).unwrap_or_default()
    }
}
