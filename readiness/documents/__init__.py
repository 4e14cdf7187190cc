"""Documents: what is read and written (assessments, profiles, waivers, runs), strictly and within bounds."""
