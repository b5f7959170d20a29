"""Files of label tools: photos and labels that they exported, and findings in the formats that they import."""
