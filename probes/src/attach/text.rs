//! Links in a message: what one process has attached for another, and what that one has already.

use std::io;

use serde::{Deserialize, Serialize};

use super::{Hold, Link, Links};
use crate::filter::Aimed;
use crate::hook::{Hook, PlaceText};
use crate::tracefs::{Event, Names, Profile, Remove};
use crate::wire::{Incoming, Number, Outgoing};
use crate::workshop::Source;

/// Links in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LinksText {
    attached: Vec<LinkText>,
    /// Programs that are loaded and can be attached.
    programs: Vec<(String, Number)>,
    profile: Option<Number>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LinkText {
    place: PlaceText,
    /// None where this kernel has no such place.
    hold: Option<Number>,
    event: Option<String>,
    program: Number,
    id: Option<u64>,
    users: usize,
}

/// Programs and places of one process that another one is told of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SharedText {
    held: Vec<PlaceText>,
    programs: Vec<(String, Number)>,
}

impl Links {
    /// For another process: links and programs that it can attach.
    pub(crate) fn into_text(mut self, outgoing: &mut Outgoing) -> LinksText {
        let attached = std::mem::take(&mut self.attached).into_iter().filter_map(|(place, link)| {
            let Link { hold, event, program, id, users } = link;
            let hold = match hold {
                Hold::By(held) => Some(outgoing.add(held)),
                Hold::Nowhere => None,
                // It has that itself.
                Hold::There | Hold::Lost => return None,
            };
            let event = event.map(Event::hand_over);
            Some(LinkText { place: PlaceText::of(&place), hold, event, program: outgoing.add(program), id, users })
        });
        let attached = attached.collect();
        let programs = std::mem::replace(&mut self.source, Source::Closed).into_loaded();
        let programs = programs.map(|(name, program)| (name, outgoing.add(program))).collect();
        LinksText { attached, programs, profile: self.profile.take().map(|profile| outgoing.add(profile)) }
    }

    /// What another process has attached for this one, at places of these hooks; it removes their events.
    pub(crate) fn of_text(
        text: LinksText,
        incoming: &mut Incoming,
        hooks: &[Hook],
        remove: &Remove,
    ) -> Result<Self, String> {
        let mut links = Self::new(Source::Closed, Names::default(), Aimed::by_another());
        // First: whatever is wrong with the rest, the events are ours to remove.
        let with_event = |mut link: LinkText| {
            let event = link.event.take().map(|name| Event::of_another(name, remove));
            (link, event)
        };
        let attached: Vec<_> = text.attached.into_iter().map(with_event).collect();
        for (LinkText { place, hold, program, id, users, .. }, event) in attached {
            let hold = hold.map(|held| incoming.take(held).map(Hold::By)).transpose()?.unwrap_or(Hold::Nowhere);
            let link = Link { hold, event, program: incoming.take(program)?, id, users };
            links.attached.push((place.find(hooks)?.place(), link));
        }
        let programs = text.programs.into_iter().map(|(name, program)| Ok((name, Ok(incoming.take(program)?))));
        links.source = Source::Loaded(programs.collect::<Result<_, String>>()?);
        links.profile = text.profile.map(|profile| incoming.take(profile).map(Profile::from)).transpose()?;
        Ok(links)
    }

    /// What this process has, for one that attaches more of it.
    pub(crate) fn shown(&self, outgoing: &mut Outgoing) -> io::Result<SharedText> {
        let held = self.attached.iter().filter(|(_, link)| matches!(link.hold, Hold::By(_)));
        let held = held.map(|(place, _)| PlaceText::of(place)).collect();
        let programs =
            self.source.loaded().map(|(name, program)| Ok((name.to_owned(), outgoing.add(program.try_clone()?))));
        Ok(SharedText { held, programs: programs.collect::<io::Result<_>>()? })
    }

    /// What another process has, to attach more of it; what it has at places of these hooks is not attached again.
    pub(crate) fn of_shown(
        text: SharedText,
        incoming: &mut Incoming,
        hooks: &[Hook],
        names: Names,
    ) -> Result<Self, String> {
        let mut links = Self::new(Source::Closed, names, Aimed::by_another());
        let programs = text.programs.into_iter().map(|(name, program)| Ok((name, incoming.take(program)?)));
        let programs = programs.collect::<Result<Vec<_>, String>>()?;
        for place in text.held {
            // What guards and follows is of no interest here.
            let Ok(hook) = place.find(hooks) else { continue };
            let Some((_, program)) = programs.iter().find(|(name, _)| *name == hook.program) else { continue };
            let program = program.try_clone().map_err(|error| error.to_string())?;
            links.attached.push((hook.place(), Link { hold: Hold::There, event: None, program, id: None, users: 1 }));
        }
        links.source = Source::Loaded(programs.into_iter().map(|(name, program)| (name, Ok(program))).collect());
        Ok(links)
    }
}
