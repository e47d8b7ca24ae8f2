//! The two questions to a repository: what does the ref point to now, and what is in it.

use std::path::Path;
use std::sync::Arc;

use git2::{AutotagOption, Direction, FetchOptions, FetchPrune, Oid, Remote, RemoteCallbacks};

use crate::error::GitError;
use crate::exchange::{ADDRESS, Exchange};
use crate::options::GitOptions;
use crate::resolve::{CommitId, Wanted, not_found, wanted};
use crate::set::GitSet;
use crate::url::GitUrl;
use crate::workspace::Workspace;
use crate::{local, register};

/// What the server says that a tag points to in the end.
const PEELED: &str = "^{}";

/// The commit that the URL's ref points to now. No object is received; a `ref` that is a commit id already is given
/// back without asking a remote.
pub fn tip(url: &GitUrl, options: &GitOptions<'_>) -> Result<CommitId, GitError> {
    let exchange = Exchange::new(url, options);
    ready(&exchange)?;
    if url.is_local() {
        return local::tip(&local::open(url)?, url);
    }
    if let Some(Ok(commit)) = url.reference().map(|name| name.to_ascii_lowercase().parse()) {
        return Ok(commit);
    }
    exchange.while_current(|| {
        let mut remote = Remote::create_detached(ADDRESS).map_err(|error| exchange.error("prepare", error))?;
        let refs = advertised(&exchange, &mut remote)?;
        // A farewell that fails changes nothing.
        let _farewell = remote.disconnect();
        Ok(target(url, &refs)?.commit)
    })
}

/// Takes the set that the URL names. A local repository is opened where it lies; from a remote one the commit's files
/// are received, without history, into `workspace`, a folder that belongs to this source alone.
pub fn fetch(url: &GitUrl, workspace: &Path, options: &GitOptions<'_>) -> Result<GitSet, GitError> {
    let exchange = Exchange::new(url, options);
    ready(&exchange)?;
    if url.is_local() {
        let repository = local::open(url)?;
        let commit = local::tip(&repository, url)?;
        return GitSet::at(repository, url, commit, options, None);
    }
    let workspace = Workspace::lock(workspace, &exchange)?;
    // A commit that was asked for by its id and is kept needs no network.
    if let Some(Ok(commit)) = url.reference().map(|name| name.to_ascii_lowercase().parse())
        && let Some(set) = kept(&workspace, url, commit, options)?
    {
        return Ok(set);
    }
    exchange.while_current(|| receive(&exchange, &workspace, options))
}

fn ready(exchange: &Exchange) -> Result<(), GitError> {
    register::transports().map_err(|error| exchange.error("register the transport", error))
}

/// The set from what an earlier fetch left, if every byte of it is still right; what is not is thrown away.
fn kept(
    workspace: &Workspace,
    url: &GitUrl,
    commit: CommitId,
    options: &GitOptions<'_>,
) -> Result<Option<GitSet>, GitError> {
    let Some((repository, in_use)) = workspace.kept(commit) else { return Ok(None) };
    match GitSet::at(repository, url, commit, options, Some(in_use)) {
        Ok(set) if set.verify().is_ok() => Ok(Some(set)),
        Err(error @ GitError::NotFound { .. }) => Err(error),
        Ok(_) | Err(_) => {
            workspace.discard(commit)?;
            Ok(None)
        }
    }
}

fn receive(exchange: &Arc<Exchange>, workspace: &Workspace, options: &GitOptions<'_>) -> Result<GitSet, GitError> {
    let url = &exchange.url;
    let fresh = workspace.fresh()?;
    let Some(repository) = fresh.repository() else { return Err(not_found(url, "the workspace was closed")) };
    let mut remote = repository.remote_anonymous(ADDRESS).map_err(|error| exchange.error("prepare", error))?;
    let refs = advertised(exchange, &mut remote)?;
    let target = target(url, &refs)?;
    if let Some(set) = kept(workspace, url, target.commit, options)? {
        let _farewell = remote.disconnect();
        return Ok(set);
    }
    download(exchange, &mut remote, &target, options)?;
    let _farewell = remote.disconnect();
    drop(remote);
    let found = repository.find_object(target.object, None).and_then(|object| object.peel_to_commit());
    let commit = CommitId(found.map_err(|error| exchange.error("read the commit that was received", error))?.id());
    let (repository, in_use) = workspace.keep(fresh, commit)?;
    let set = GitSet::at(repository, url, commit, options, Some(in_use))?;
    // Every object was hashed as it came; this proves that none is missing.
    autonomy_stateroot::SetSource::list(&set).map_err(|source| GitError::Set { url: url.to_string(), source })?;
    Ok(set)
}

/// A ref of the remote.
struct Advertised {
    name: String,
    id: Oid,
}

fn advertised(exchange: &Exchange, remote: &mut Remote<'_>) -> Result<Vec<Advertised>, GitError> {
    remote.connect(Direction::Fetch).map_err(|error| exchange.error("list the refs", error))?;
    let heads = remote.list().map_err(|error| exchange.error("list the refs", error))?;
    Ok(heads.iter().map(|head| Advertised { name: head.name().to_owned(), id: head.oid() }).collect())
}

/// What to ask the server for.
struct Target {
    /// A name or an id.
    source: String,
    /// What that is: a commit or a tag object.
    object: Oid,
    /// What it is in the end, as far as the server says.
    commit: CommitId,
}

fn target(url: &GitUrl, refs: &[Advertised]) -> Result<Target, GitError> {
    let of = |name: &str| refs.iter().find(|known| known.name == name).map(|known| known.id);
    match wanted(url, |name| of(name).is_some())? {
        Wanted::Ref(name) => {
            let object = of(&name).ok_or_else(|| not_found(url, "the ref has gone"))?;
            let commit = CommitId(of(&format!("{name}{PEELED}")).unwrap_or(object));
            Ok(Target { source: name, object, commit })
        }
        Wanted::Commit(commit) => {
            // Every server gives what it advertises; other commits only one that is set so.
            let named = refs.iter().find(|known| known.id == commit.0);
            let source =
                named.map_or_else(|| commit.to_string(), |known| known.name.trim_end_matches(PEELED).to_owned());
            Ok(Target { source, object: commit.0, commit })
        }
    }
}

fn download(
    exchange: &Arc<Exchange>,
    remote: &mut Remote<'_>,
    target: &Target,
    options: &GitOptions<'_>,
) -> Result<(), GitError> {
    let url = &exchange.url;
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|progress| {
        if progress.total_objects() > options.max_objects {
            exchange.fail(GitError::TooLarge {
                url: url.to_string(),
                what: "the number of objects".to_owned(),
                cap: format!("{} objects", options.max_objects),
            });
            return false;
        }
        if let Some(tell) = options.progress {
            tell(progress.received_bytes() as u64);
        }
        exchange.check().is_ok()
    });
    let mut fetch = FetchOptions::new();
    fetch.remote_callbacks(callbacks).depth(1).download_tags(AutotagOption::None).prune(FetchPrune::Off);
    // The `+` lets a branch be anything it was not before; the name on our side is never read.
    let spec = format!("+{}:refs/autonomy/tip", target.source);
    remote.download(&[spec.as_str()], Some(&mut fetch)).map_err(|error| {
        let error = exchange.error("receive the commit", error);
        let GitError::Git { source, .. } = &error else { return error };
        let said = |text| source.message().contains(text);
        if said("cannot fetch a specific object") {
            return not_found(
                url,
                format!(
                    "the server gives commits by name only, and no branch or tag points to {}: name one of those, or \
                     set `uploadpack.allowReachableSHA1InWant` there",
                    target.commit
                ),
            );
        }
        // Over http, git answers what it would not give with an error packet that libgit2 does not know.
        let by_id = target.source == target.commit.to_string();
        if said("not our ref") || (by_id && said("unexpected packet type")) {
            return not_found(url, format!("the server has no commit {} that it would give", target.object));
        }
        error
    })
}
