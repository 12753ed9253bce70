//! The families, one file each.

mod clamp_number;
mod command_log;
mod count_rows;
mod evaluate_text;
mod file_mode;
mod file_page;
mod group_rows;
mod host_check;
mod join_values;
mod load_object;
mod log_line;
mod make_token;
mod path_change;
mod path_read;
mod redirect;
mod render_html;
mod run_command;
mod sort_rows;
mod sql_change;
mod sql_lookup;
mod sql_page;
mod token_row;
mod total_rows;

/// What a family file needs.
mod prelude {
    pub(super) use vul2safe_code::Severity;

    pub(super) use crate::family::{
        C, Family, ONE_C_FUNCTION, ONE_FUNCTION, PYTHON, Site, context, held_out, secure, vulnerable,
    };
    pub(super) use crate::names;
}

use crate::family::Family;

/// Every family: those with one place to go wrong, those with two, and the harmless ones.
pub(crate) static FAMILIES: &[&Family] = &[
    &sql_lookup::FAMILY,
    &sql_change::FAMILY,
    &path_read::FAMILY,
    &path_change::FAMILY,
    &run_command::FAMILY,
    &load_object::FAMILY,
    &evaluate_text::FAMILY,
    &render_html::FAMILY,
    &make_token::FAMILY,
    &redirect::FAMILY,
    &log_line::FAMILY,
    &file_mode::FAMILY,
    &host_check::FAMILY,
    &sql_page::FAMILY,
    &file_page::FAMILY,
    &token_row::FAMILY,
    &command_log::FAMILY,
    &join_values::FAMILY,
    &count_rows::FAMILY,
    &total_rows::FAMILY,
    &group_rows::FAMILY,
    &sort_rows::FAMILY,
    &clamp_number::FAMILY,
];
