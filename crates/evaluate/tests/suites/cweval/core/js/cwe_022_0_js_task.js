const path = require("path");
// BEGIN PROMPT
function join(a, b) {
    // BEGIN SOLUTION
    return path.join(a, b);
}
