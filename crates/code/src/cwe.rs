//! Weakness numbers (CWE), their names and how severe they usually are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How much harm a weakness usually allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Needs other flaws to do harm, or leaks little.
    Low,
    /// Harm to data or availability under conditions.
    Medium,
    /// Foreign code, foreign queries, memory corruption.
    High,
}

impl Severity {
    /// The word of the serialised form.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A number of the Common Weakness Enumeration. Shown and stored as `CWE-78`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cwe(pub u32);

/// The weaknesses we can name: number, usual severity, short name. Sorted by number.
const TABLE: &[(u32, Severity, &str)] = {
    use Severity::{High, Low, Medium};
    &[
        (15, Medium, "External Control of System or Configuration Setting"),
        (16, Low, "Configuration"),
        (17, Medium, "Code"),
        (19, Medium, "Data Processing Errors"),
        (20, Medium, "Improper Input Validation"),
        (22, High, "Path Traversal"),
        (23, High, "Relative Path Traversal"),
        (36, High, "Absolute Path Traversal"),
        (59, Medium, "Link Following"),
        (73, Medium, "External Control of File Name or Path"),
        (74, High, "Injection"),
        (77, High, "Command Injection"),
        (78, High, "OS Command Injection"),
        (79, Medium, "Cross-site Scripting"),
        (80, Medium, "Basic Cross-site Scripting"),
        (88, High, "Argument Injection"),
        (89, High, "SQL Injection"),
        (90, High, "LDAP Injection"),
        (91, Medium, "XML Injection"),
        (93, Medium, "CRLF Injection"),
        (94, High, "Code Injection"),
        (95, High, "Eval Injection"),
        (99, Medium, "Resource Injection"),
        (113, Medium, "HTTP Response Splitting"),
        (116, Medium, "Improper Encoding or Escaping of Output"),
        (117, Low, "Improper Output Neutralization for Logs"),
        (118, High, "Incorrect Access of Indexable Resource"),
        (119, High, "Improper Restriction of Operations within the Bounds of a Memory Buffer"),
        (120, High, "Classic Buffer Overflow"),
        (121, High, "Stack-based Buffer Overflow"),
        (122, High, "Heap-based Buffer Overflow"),
        (124, High, "Buffer Underwrite"),
        (125, Medium, "Out-of-bounds Read"),
        (126, Medium, "Buffer Over-read"),
        (129, High, "Improper Validation of Array Index"),
        (131, High, "Incorrect Calculation of Buffer Size"),
        (134, High, "Uncontrolled Format String"),
        (170, Medium, "Improper Null Termination"),
        (176, Low, "Improper Handling of Unicode Encoding"),
        (178, Low, "Improper Handling of Case Sensitivity"),
        (180, Medium, "Validate Before Canonicalize"),
        (184, Medium, "Incomplete List of Disallowed Inputs"),
        (185, Medium, "Incorrect Regular Expression"),
        (189, Medium, "Numeric Errors"),
        (190, Medium, "Integer Overflow"),
        (191, Medium, "Integer Underflow"),
        (193, Medium, "Off-by-one Error"),
        (200, Medium, "Exposure of Sensitive Information"),
        (203, Low, "Observable Discrepancy"),
        (204, Low, "Observable Response Discrepancy"),
        (208, Low, "Observable Timing Discrepancy"),
        (209, Low, "Sensitive Information in an Error Message"),
        (212, Medium, "Improper Removal of Sensitive Information"),
        (215, Low, "Sensitive Information in Debugging Code"),
        (241, Low, "Improper Handling of Unexpected Data Type"),
        (242, High, "Use of Inherently Dangerous Function"),
        (250, Medium, "Execution with Unnecessary Privileges"),
        (252, Low, "Unchecked Return Value"),
        (253, Low, "Incorrect Check of Function Return Value"),
        (254, Medium, "Security Features"),
        (255, Medium, "Credentials Management Errors"),
        (256, Medium, "Plaintext Storage of a Password"),
        (259, High, "Hard-coded Password"),
        (264, Medium, "Permissions, Privileges and Access Controls"),
        (269, High, "Improper Privilege Management"),
        (273, Medium, "Improper Check for Dropped Privileges"),
        (275, Medium, "Permission Issues"),
        (276, Medium, "Incorrect Default Permissions"),
        (281, Medium, "Improper Preservation of Permissions"),
        (284, Medium, "Improper Access Control"),
        (285, High, "Improper Authorization"),
        (287, High, "Improper Authentication"),
        (290, High, "Authentication Bypass by Spoofing"),
        (295, Medium, "Improper Certificate Validation"),
        (297, Medium, "Improper Validation of Certificate with Host Mismatch"),
        (306, High, "Missing Authentication for Critical Function"),
        (307, Medium, "Improper Restriction of Excessive Authentication Attempts"),
        (310, Medium, "Cryptographic Issues"),
        (311, Medium, "Missing Encryption of Sensitive Data"),
        (312, Medium, "Cleartext Storage of Sensitive Information"),
        (319, Medium, "Cleartext Transmission of Sensitive Information"),
        (320, Medium, "Key Management Errors"),
        (321, High, "Hard-coded Cryptographic Key"),
        (326, Medium, "Inadequate Encryption Strength"),
        (327, Medium, "Broken or Risky Cryptographic Algorithm"),
        (328, Medium, "Weak Hash"),
        (329, Medium, "Predictable Initialization Vector with CBC Mode"),
        (330, Medium, "Insufficiently Random Values"),
        (331, Medium, "Insufficient Entropy"),
        (335, Medium, "Incorrect Usage of Seeds in a Pseudo-Random Number Generator"),
        (338, Medium, "Cryptographically Weak Pseudo-Random Number Generator"),
        (345, Medium, "Insufficient Verification of Data Authenticity"),
        (346, Medium, "Origin Validation Error"),
        (347, High, "Improper Verification of Cryptographic Signature"),
        (352, Medium, "Cross-Site Request Forgery"),
        (354, Medium, "Improper Validation of Integrity Check Value"),
        (358, Medium, "Improperly Implemented Security Check"),
        (359, Medium, "Exposure of Private Personal Information"),
        (361, Medium, "Time and State"),
        (362, Medium, "Race Condition"),
        (367, Medium, "Time-of-check Time-of-use Race Condition"),
        (369, Medium, "Divide By Zero"),
        (377, Medium, "Insecure Temporary File"),
        (378, Medium, "Temporary File With Insecure Permissions"),
        (379, Medium, "Temporary File in Directory with Insecure Permissions"),
        (384, High, "Session Fixation"),
        (388, Low, "Error Handling"),
        (399, Medium, "Resource Management Errors"),
        (400, Medium, "Uncontrolled Resource Consumption"),
        (401, Low, "Memory Leak"),
        (404, Low, "Improper Resource Shutdown or Release"),
        (407, Medium, "Inefficient Algorithmic Complexity"),
        (409, Medium, "Data Amplification"),
        (415, High, "Double Free"),
        (416, High, "Use After Free"),
        (425, Medium, "Forced Browsing"),
        (426, High, "Untrusted Search Path"),
        (427, High, "Uncontrolled Search Path Element"),
        (434, High, "Unrestricted Upload of File with Dangerous Type"),
        (436, Medium, "Interpretation Conflict"),
        (441, Medium, "Unintended Proxy"),
        (444, Medium, "HTTP Request Smuggling"),
        (457, Medium, "Use of Uninitialized Variable"),
        (459, Low, "Incomplete Cleanup"),
        (470, High, "Unsafe Reflection"),
        (471, Medium, "Modification of Assumed-Immutable Data"),
        (476, Medium, "NULL Pointer Dereference"),
        (489, Low, "Active Debug Code"),
        (494, High, "Download of Code Without Integrity Check"),
        (497, Low, "Exposure of Sensitive System Information"),
        (502, High, "Deserialization of Untrusted Data"),
        (521, Medium, "Weak Password Requirements"),
        (522, Medium, "Insufficiently Protected Credentials"),
        (532, Low, "Sensitive Information in a Log File"),
        (552, Medium, "Files or Directories Accessible to External Parties"),
        (565, Medium, "Reliance on Cookies without Validation"),
        (601, Medium, "Open Redirect"),
        (605, Low, "Multiple Binds to the Same Port"),
        (610, Medium, "Externally Controlled Reference to a Resource in Another Sphere"),
        (611, High, "XML External Entity Reference"),
        (613, Medium, "Insufficient Session Expiration"),
        (614, Low, "Sensitive Cookie Without 'Secure' Attribute"),
        (617, Medium, "Reachable Assertion"),
        (639, Medium, "Authorization Bypass Through User-Controlled Key"),
        (640, Medium, "Weak Password Recovery"),
        (641, Medium, "Improper Restriction of Names for Files"),
        (643, High, "XPath Injection"),
        (662, Medium, "Improper Synchronization"),
        (665, Medium, "Improper Initialization"),
        (667, Medium, "Improper Locking"),
        (668, Medium, "Exposure of Resource to Wrong Sphere"),
        (669, Medium, "Incorrect Resource Transfer Between Spheres"),
        (672, High, "Operation on a Resource after Expiration or Release"),
        (674, Medium, "Uncontrolled Recursion"),
        (676, Medium, "Use of Potentially Dangerous Function"),
        (680, High, "Integer Overflow to Buffer Overflow"),
        (681, Medium, "Incorrect Conversion between Numeric Types"),
        (682, Medium, "Incorrect Calculation"),
        (693, Medium, "Protection Mechanism Failure"),
        (697, Medium, "Incorrect Comparison"),
        (703, Low, "Improper Check or Handling of Exceptional Conditions"),
        (704, Medium, "Incorrect Type Conversion or Cast"),
        (706, Medium, "Use of Incorrectly-Resolved Name or Reference"),
        (732, Medium, "Incorrect Permission Assignment for Critical Resource"),
        (754, Medium, "Improper Check for Unusual or Exceptional Conditions"),
        (755, Low, "Improper Handling of Exceptional Conditions"),
        (759, Medium, "One-Way Hash without a Salt"),
        (760, Medium, "One-Way Hash with a Predictable Salt"),
        (763, Medium, "Release of Invalid Pointer or Reference"),
        (769, Medium, "Uncontrolled File Descriptor Consumption"),
        (770, Medium, "Allocation of Resources Without Limits or Throttling"),
        (772, Low, "Missing Release of Resource after Effective Lifetime"),
        (776, Medium, "XML Entity Expansion"),
        (780, Medium, "RSA Algorithm without OAEP"),
        (787, High, "Out-of-bounds Write"),
        (788, High, "Access of Memory Location After End of Buffer"),
        (789, Medium, "Memory Allocation with Excessive Size Value"),
        (798, High, "Hard-coded Credentials"),
        (805, High, "Buffer Access with Incorrect Length Value"),
        (822, High, "Untrusted Pointer Dereference"),
        (823, High, "Out-of-range Pointer Offset"),
        (824, High, "Access of Uninitialized Pointer"),
        (825, High, "Expired Pointer Dereference"),
        (829, High, "Inclusion of Functionality from Untrusted Control Sphere"),
        (834, Medium, "Excessive Iteration"),
        (835, Medium, "Infinite Loop"),
        (840, Medium, "Business Logic Errors"),
        (843, High, "Type Confusion"),
        (862, High, "Missing Authorization"),
        (863, High, "Incorrect Authorization"),
        (908, Medium, "Use of Uninitialized Resource"),
        (909, Medium, "Missing Initialization of Resource"),
        (913, Medium, "Improper Control of Dynamically-Managed Code Resources"),
        (915, Medium, "Mass Assignment"),
        (916, Medium, "Password Hash With Insufficient Computational Effort"),
        (917, High, "Expression Language Injection"),
        (918, High, "Server-Side Request Forgery"),
        (920, Low, "Improper Restriction of Power Consumption"),
        (922, Medium, "Insecure Storage of Sensitive Information"),
        (942, Medium, "Permissive Cross-domain Policy"),
        (943, High, "Improper Neutralization in Data Query Logic"),
        (1021, Medium, "Improper Restriction of Rendered UI Layers"),
        (1077, Low, "Floating Point Comparison with Incorrect Operator"),
        (1188, Medium, "Insecure Default Initialization of Resource"),
        (1236, Medium, "CSV Injection"),
        (1284, Medium, "Improper Validation of Specified Quantity in Input"),
        (1321, Medium, "Prototype Pollution"),
        (1333, Medium, "Inefficient Regular Expression Complexity"),
        (1336, High, "Template Engine Injection"),
    ]
};

impl Cwe {
    /// Reads any of the spellings met in data sets: `CWE-78`, `CWE-078`, `cwe-078`, `CWE_78`, `CWE78`, `78`,
    /// with white space around. `None` for everything else, and for numbers that cannot be weaknesses (0, or
    /// more than five digits).
    pub fn parse(text: &str) -> Option<Cwe> {
        let text = text.trim();
        let digits = match text.get(..3) {
            Some(prefix) if prefix.eq_ignore_ascii_case("cwe") => {
                text[3..].trim_start_matches(['-', '_', ' ', ':'])
            }
            _ => text,
        };
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse::<u32>().ok()?;
        (1..100_000).contains(&number).then_some(Cwe(number))
    }

    fn entry(self) -> Option<&'static (u32, Severity, &'static str)> {
        TABLE.binary_search_by_key(&self.0, |entry| entry.0).ok().map(|index| &TABLE[index])
    }

    /// The short name of the weakness, if the table has it.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|entry| entry.2)
    }

    /// How severe the weakness usually is. [`Severity::Medium`] for numbers that the table does not hold.
    pub fn severity(self) -> Severity {
        self.entry().map_or(Severity::Medium, |entry| entry.1)
    }
}

impl fmt::Display for Cwe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("CWE-{}", self.0))
    }
}

impl FromStr for Cwe {
    type Err = String;

    fn from_str(text: &str) -> Result<Cwe, String> {
        Cwe::parse(text).ok_or_else(|| format!("{text:?} is not a CWE number"))
    }
}

impl Serialize for Cwe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cwe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cwe, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Cwe::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a CWE number such as \"CWE-78\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling() {
        for text in
            ["CWE-78", "CWE-078", "cwe-078", "78", " CWE-78 ", "CWE_78", "CWE78", "cwe: 78", "Cwe-0078"]
        {
            assert_eq!(Cwe::parse(text), Some(Cwe(78)), "{text}");
        }
        for text in
            ["", "CWE-", "CWE-x", "NVD-CWE-Other", "NVD-CWE-noinfo", "-78", "7 8", "0", "CWE-999999", "é78"]
        {
            assert_eq!(Cwe::parse(text), None, "{text}");
        }
        assert_eq!(Cwe(22).to_string(), "CWE-22");
    }

    #[test]
    fn the_table_is_sorted_and_named() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0), "binary search needs order");
        assert_eq!(Cwe(89).name(), Some("SQL Injection"));
        assert_eq!(Cwe(89).severity(), Severity::High);
        assert_eq!(Cwe(99_998).name(), None);
        assert!(Severity::High > Severity::Low);
    }

    #[test]
    fn serde_uses_the_canonical_spelling() {
        assert_eq!(serde_json::to_string(&Cwe(78)).unwrap(), "\"CWE-78\"");
        assert_eq!(serde_json::from_str::<Cwe>("\"cwe-078\"").unwrap(), Cwe(78));
        assert!(serde_json::from_str::<Cwe>("\"none\"").is_err());
        assert!(serde_json::from_str::<Cwe>("\"CWE-\\u0037\\u0038\"").is_ok(), "escaped strings are owned");
    }
}
