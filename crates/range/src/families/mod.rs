//! The families, one file each.

mod add_header;
mod c_copy_part;
mod c_count_letter;
mod c_file_start;
mod c_label_text;
mod c_largest_item;
mod c_log_line;
mod c_make_rows;
mod c_mean_value;
mod c_name_at;
mod c_number_after;
mod c_pack_record;
mod c_read_record;
mod c_replace_text;
mod c_run_command;
mod c_set_item;
mod c_set_text;
mod c_sum_items;
mod c_sum_parts;
mod call_action;
mod clamp_number;
mod command_log;
mod count_rows;
mod evaluate_text;
mod export_row;
mod file_mode;
mod file_page;
mod fill_template;
mod group_rows;
mod hash_password;
mod host_check;
mod join_values;
mod load_object;
mod log_line;
mod longest_value;
mod make_token;
mod match_words;
mod open_session;
mod path_change;
mod path_read;
mod read_body;
mod redirect;
mod render_html;
mod run_command;
mod signed_value;
mod sort_rows;
mod sql_change;
mod sql_lookup;
mod sql_page;
mod temporary_file;
mod token_row;
mod total_rows;
mod unique_values;
mod update_record;

/// What a family file needs.
mod prelude {
    pub(super) use vul2safe_code::Severity;

    pub(super) use crate::family::{
        C, Family, ONE_FUNCTION, PYTHON, Site, context, held_out, secure, vulnerable,
    };
    pub(super) use crate::names;
}

use crate::family::Family;

/// Every family: those with one place to go wrong, those with several, and the harmless ones.
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
    &temporary_file::FAMILY,
    &read_body::FAMILY,
    &match_words::FAMILY,
    &add_header::FAMILY,
    &update_record::FAMILY,
    &call_action::FAMILY,
    &hash_password::FAMILY,
    &signed_value::FAMILY,
    &fill_template::FAMILY,
    &c_label_text::FAMILY,
    &c_replace_text::FAMILY,
    &c_name_at::FAMILY,
    &c_number_after::FAMILY,
    &c_set_text::FAMILY,
    &c_sum_parts::FAMILY,
    &c_run_command::FAMILY,
    &c_mean_value::FAMILY,
    &c_set_item::FAMILY,
    &c_copy_part::FAMILY,
    &c_file_start::FAMILY,
    &c_pack_record::FAMILY,
    &sql_page::FAMILY,
    &file_page::FAMILY,
    &token_row::FAMILY,
    &command_log::FAMILY,
    &export_row::FAMILY,
    &open_session::FAMILY,
    &c_read_record::FAMILY,
    &c_make_rows::FAMILY,
    &c_log_line::FAMILY,
    &join_values::FAMILY,
    &count_rows::FAMILY,
    &total_rows::FAMILY,
    &group_rows::FAMILY,
    &sort_rows::FAMILY,
    &clamp_number::FAMILY,
    &unique_values::FAMILY,
    &longest_value::FAMILY,
    &c_sum_items::FAMILY,
    &c_count_letter::FAMILY,
    &c_largest_item::FAMILY,
];
