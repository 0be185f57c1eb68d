"""What somebody who helps has to see, in one file and without secrets."""
