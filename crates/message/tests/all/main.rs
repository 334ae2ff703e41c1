//! The room from outside: templates in, mail out.

#[cfg(test)]
mod fields;
#[cfg(test)]
mod given;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod mistakes;
